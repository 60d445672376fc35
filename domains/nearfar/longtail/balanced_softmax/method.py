"""Encoder and head trained with the sizes of the classes in the softmax."""

from __future__ import annotations

from nearfar.longtail.supervised.method import Supervised


class BalancedSoftmax(Supervised):
    """Logits plus logarithms of class sizes in training (Ren et al., NeurIPS 2020)."""
