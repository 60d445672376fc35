"""Settings of balanced softmax."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.longtail.supervised.config import SupervisedConfig


class BalancedSoftmaxConfig(SupervisedConfig):
    """Plain training with the sizes of the classes in the softmax."""

    loss: Literal["cross_entropy", "balanced_softmax"] = Field("balanced_softmax", description="Of the head.")
