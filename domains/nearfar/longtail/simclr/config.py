"""Settings of contrast without labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.longtail.supcon.config import SupConConfig


class SimCLRConfig(SupConConfig):
    """Labels are seen by the second stage alone."""

    warmup_loss: Literal["supcon", "simclr"] = Field("simclr", description="No labels.")
