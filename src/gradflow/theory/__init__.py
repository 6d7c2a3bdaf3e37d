"""Closed forms and numerical predictions for networks of infinite width. Knows nothing of our models."""
