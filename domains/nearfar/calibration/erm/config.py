"""Settings of plain training."""

from __future__ import annotations

from nearfar.calibration.rcal.config import GaussiansConfig, PretrainConfig, RCALConfig


class ErmConfig(RCALConfig):
    """RCAL without any of its parts: empirical risk minimisation."""

    epochs: int = 100
    pretrain: PretrainConfig = PretrainConfig(epochs=0)
    gaussians: GaussiansConfig = GaussiansConfig(enabled=False)
    beta: float = 0.0
    mixup: float = 0.0
