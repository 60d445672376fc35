"""Supervised contrast of classes: SBCL without subclasses."""
