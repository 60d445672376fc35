"""Contrastive objectives: one primitive, :func:`contrast`, that every method calls."""

from nearfar.objectives.contrast import contrast

__all__ = ["contrast"]
