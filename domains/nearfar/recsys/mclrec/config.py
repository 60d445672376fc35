"""Settings of MCLRec."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nearfar.config import Settings
from nearfar.recsys.config import SequenceModelConfig


class ContrastConfig(Settings):
    """The contrast between two augmented views of a history (lambda L_cl1 of the paper)."""

    weight: float = Field(3e-3, ge=0, le=100, description="Weight of the contrastive term (lambda).")
    rows: int = Field(64, ge=2, le=65536, description="Histories contrasted per step.")
    temperature: float = Field(1.0, ge=0.01, le=100, description="Softmax temperature.")
    similarity: Literal["dot", "cosine"] = Field("dot", description="How two user vectors are compared.")
    crop_ratio: float = Field(0.5, ge=0, lt=1, description="Share of a history removed by crop.")
    mask_ratio: float = Field(0.5, ge=0, lt=1, description="Share of a history hidden by mask.")
    reorder_ratio: float = Field(0.8, ge=0, le=1, description="Share of a history shuffled by reorder.")


class MCLRecConfig(SequenceModelConfig):
    """MCLRec without its learnable augmenters: SASRec and the contrast of two data views."""

    contrast: ContrastConfig = ContrastConfig()
