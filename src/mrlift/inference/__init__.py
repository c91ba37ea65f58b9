"""From a Volume to a sharper Volume: cards, engines, patches, the pipeline. Needs no torch."""
