"""Settings of balanced softmax."""

from __future__ import annotations

from typing import Literal

from nearfar.calibration.erm.config import ErmConfig
from nearfar.config import OptimConfig


class BalancedSoftmaxConfig(ErmConfig):
    """Plain training with mixup, the sizes of the classes in the softmax."""

    mixup: float = 1.0
    optim: OptimConfig = OptimConfig(name="sgd", lr=0.1, weight_decay=5e-4)
    loss: Literal["cross_entropy", "balanced_softmax"] = "balanced_softmax"
