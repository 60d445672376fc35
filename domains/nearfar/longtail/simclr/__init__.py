"""Contrast of views, without labels: what labels have to add to."""
