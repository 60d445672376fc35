"""Settings of MCLRec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from nearfar.config import Settings
from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.mclrec.offers import OFFERS
from nearfar.selectable import ObjectiveSettings, read_objective

Schedule: TypeAlias = Literal["simultaneous", "paper", "official", "joint"]


class ContrastConfig(Settings):
    """Which user vectors are contrasted, and the contrast of two data views (lambda L_cl1 of the paper)."""

    form: Literal["mclrec", "spread"] = Field(
        "mclrec", description="mclrec, or spread: only push user vectors apart, without views."
    )
    weight: float = Field(
        3e-3, ge=0, le=100, description="Weight of the contrast of data views (lambda), or of the spread."
    )
    rows: int = Field(64, ge=2, le=65536, description="Histories contrasted per step.")
    temperature: float = Field(1.0, ge=0.01, le=100, description="Softmax temperature, for data views.")
    similarity: Literal["dot", "cosine"] = Field("dot", description="How two data views are compared.")
    false_negatives: Literal["keep", "same_user", "same_target"] = Field(
        "keep",
        description="Histories that are no negatives of each other: none, of one user, before one item.",
    )
    crop_ratio: float = Field(0.5, ge=0, lt=1, description="Share of a history removed by crop.")
    mask_ratio: float = Field(0.5, ge=0, lt=1, description="Share of a history hidden by mask.")
    reorder_ratio: float = Field(0.8, ge=0, le=1, description="Share of a history shuffled by reorder.")

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: Any) -> Any:
        # Models saved before `objective` became the name of a loss call it so.
        if isinstance(values, Mapping) and values.get("objective") in ("mclrec", "spread"):
            return {**{k: v for k, v in values.items() if k != "objective"}, "form": values["objective"]}
        return values


class AugmenterConfig(Settings):
    """The learnable augmenters and the terms they bring (beta L_cl2 and gamma R of the paper)."""

    weight: float = Field(0.05, ge=0, le=100, description="Weight of L_cl2 (beta); 0 leaves augmenters out.")
    regulariser_weight: float = Field(
        0.1, ge=0, le=100, description="Weight of R relative to L_cl2 (gamma/beta)."
    )
    regulariser: Literal["row", "batch"] = Field(
        "row", description="R as the official code computes it (row), or as the paper prints it (batch)."
    )
    kind: Literal["learned", "frozen", "identity"] = Field(
        "learned", description="Trained, left at their first weights, or plain normalisation instead."
    )
    shared: bool = Field(False, description="One augmenter for both views.")


class MCLRecConfig(SequenceModelConfig):
    """MCLRec (Qin et al., SIGIR 2023) on position-parallel SASRec."""

    contrast: ContrastConfig = ContrastConfig()
    augmenters: AugmenterConfig = AugmenterConfig()
    objective: SerializeAsAny[ObjectiveSettings] | None = Field(
        None,
        description="Contrast of data views (L_cl1), by name (nearfar objectives), instead of the paper's.",
    )
    schedule: Schedule = Field(
        "simultaneous",
        description="simultaneous: encoder and augmenters in one step, each by its own loss; paper: one after the "
        "other; official: encoder, augmenters, encoder again; joint: all by one loss.",
    )

    _read_objective = field_validator("objective", mode="before")(read_objective(OFFERS))

    @model_validator(mode="after")
    def _check_objective(self) -> MCLRecConfig:
        if self.objective is not None and (self.contrast.form == "spread" or self.contrast.weight == 0):
            raise ValueError(
                f"objective={self.objective.name} is a contrast of data views: set contrast.form=mclrec and "
                "contrast.weight above 0"
            )
        return self

    @model_validator(mode="after")
    def _check_augmenters(self) -> MCLRecConfig:
        if self.dim < 4:
            raise ValueError(
                f"dim: at least 4 expected, augmenters have layers of a quarter of it, got {self.dim}"
            )
        return self

    @property
    def uses_views(self) -> bool:
        """Whether any term needs augmented histories."""
        c = self.contrast
        return c.form == "mclrec" and (c.weight > 0 or self.augmenters.weight > 0)
