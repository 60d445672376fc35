"""Encoder and head trained on a long tail as it is."""

from __future__ import annotations

from nearfar.longtail.supervised.method import Supervised


class CrossEntropy(Supervised):
    """Cross-entropy, and nothing else."""
