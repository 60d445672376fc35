"""Settings of plain training."""

from __future__ import annotations

from nearfar.longtail.supervised.config import SupervisedConfig


class CrossEntropyConfig(SupervisedConfig):
    """Nothing against the long tail."""
