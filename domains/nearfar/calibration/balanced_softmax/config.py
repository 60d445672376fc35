"""Settings of balanced softmax."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.calibration.erm.config import ErmConfig
from nearfar.config import OptimConfig


class BalancedSoftmaxConfig(ErmConfig):
    """Plain training with mixup, the sizes of the classes in the softmax."""

    mixup: float = Field(1.0, ge=0, le=100, description="Of Beta(a, a); 0 mixes nothing.")
    optim: OptimConfig = OptimConfig(name="sgd", lr=0.1, weight_decay=5e-4)
    loss: Literal["cross_entropy", "balanced_softmax"] = Field(
        "balanced_softmax", description="On real rows; draws have no prior to correct."
    )
