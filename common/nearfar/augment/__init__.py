"""Augmentations: vectorised, on the input's device, random only through the generator they are given."""

from nearfar.augment.sequences import crop, mask, reorder, two_views

__all__ = ["crop", "mask", "reorder", "two_views"]
