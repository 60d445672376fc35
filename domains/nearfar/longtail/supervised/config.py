"""Settings of supervised training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.longtail.config import LongTailConfig


class SupervisedConfig(LongTailConfig):
    """One stage: ``head`` and ``copies`` are not used, the head of training classifies."""

    loss: Literal["cross_entropy", "balanced_softmax"] = Field("cross_entropy", description="Of the head.")
