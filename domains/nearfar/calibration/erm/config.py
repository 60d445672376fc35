"""Settings of plain training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.calibration.rcal.config import GaussiansConfig, PretrainConfig, RCALConfig
from nearfar.config import OptimConfig


class ErmConfig(RCALConfig):
    """RCAL without any of its parts: empirical risk minimisation."""

    # A default of its own takes the place of the whole field: bounds and words are said again.
    epochs: int = Field(
        100, ge=0, description="Passes over the training rows, those without labels included."
    )
    pretrain: PretrainConfig = PretrainConfig(epochs=0)
    gaussians: GaussiansConfig = GaussiansConfig(enabled=False)
    beta: float = Field(0.0, ge=0, le=100, description="Price of leaving the representations of stage one.")
    mixup: float = Field(0.0, ge=0, le=100, description="Of Beta(a, a); 0 mixes nothing.")
    real_rows: Literal["all", "kept"] = Field(
        "all", description="Rows trained on: all, or those the filter keeps."
    )
    # From scratch it takes higher rates than from a first stage; chosen on digits, seeds that no table has.
    optim: OptimConfig = OptimConfig(name="sgd", lr=0.03, weight_decay=5e-4)
    head_lr: float = Field(0.3, gt=0, le=100, description="Peak learning rate of the head on real rows.")
