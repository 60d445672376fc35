"""Settings of the popularity baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.recsys.config import RecsysConfig


class PopularityConfig(RecsysConfig):
    """Counting needs no settings; one pass is all there is."""

    epochs: Literal[0] = Field(0, description="Nothing is trained.")
