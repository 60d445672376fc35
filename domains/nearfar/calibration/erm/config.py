"""Settings of plain training."""

from __future__ import annotations

from typing import Literal

from nearfar.calibration.rcal.config import GaussiansConfig, PretrainConfig, RCALConfig
from nearfar.config import OptimConfig


class ErmConfig(RCALConfig):
    """RCAL without any of its parts: empirical risk minimisation."""

    epochs: int = 100
    pretrain: PretrainConfig = PretrainConfig(epochs=0)
    gaussians: GaussiansConfig = GaussiansConfig(enabled=False)
    beta: float = 0.0
    mixup: float = 0.0
    real_rows: Literal["all", "kept"] = "all"
    # From scratch it takes higher rates than from a first stage; chosen on digits, seeds that no table has.
    optim: OptimConfig = OptimConfig(name="sgd", lr=0.03, weight_decay=5e-4)
    head_lr: float = 0.3
