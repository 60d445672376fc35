"""The encoder of RCAL trained on labels as they are given."""

from __future__ import annotations

from nearfar.calibration.rcal.method import RCAL


class Erm(RCAL):
    """Empirical risk minimisation: cross-entropy, and nothing else."""
