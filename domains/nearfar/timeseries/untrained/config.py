"""Settings of the untrained encoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.timeseries.autotcl.config import AutoTCLConfig


class UntrainedConfig(AutoTCLConfig):
    """The same encoder as it is drawn: what training has to beat."""

    epochs: Literal[0] = Field(0, description="Nothing is trained.")
