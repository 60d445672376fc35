"""Settings of balanced softmax."""

from __future__ import annotations

from typing import Literal

from nearfar.calibration.erm.config import ErmConfig


class BalancedSoftmaxConfig(ErmConfig):
    """Plain training with mixup, the sizes of the classes in the softmax."""

    mixup: float = 1.0
    loss: Literal["cross_entropy", "balanced_softmax"] = "balanced_softmax"
