"""The encoder of RCAL trained with a balanced softmax."""

from __future__ import annotations

from nearfar.calibration.rcal.method import RCAL


class BalancedSoftmax(RCAL):
    """Logits plus logarithms of class sizes in training (Ren et al., NeurIPS 2020), and mixup."""
