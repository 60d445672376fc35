"""Bounds of one node at a time by auto_LiRPA, for encoders that the closed form does not cover."""
