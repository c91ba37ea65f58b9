"""Measurements of the product: what it gains in quality."""
