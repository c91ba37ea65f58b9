"""Public collections of MR series: what they hold, what of it to train on, and fetching it."""
