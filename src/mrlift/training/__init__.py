"""Training a network on one's own series. Needs torch (`pip install mrlift[train]`)."""
