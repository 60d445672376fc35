"""The encoder as it is drawn: what any training has to beat."""

from __future__ import annotations

from nearfar.timeseries.autotcl.method import AutoTCL
from nearfar.training import WithoutTraining


class Untrained(WithoutTraining, AutoTCL):
    """An encoder of series at its initial weights."""
