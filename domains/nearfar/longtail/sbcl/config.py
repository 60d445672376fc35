"""Settings of SBCL, and of the contrasts that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from nearfar.config import Settings, merge
from nearfar.longtail.config import LongTailConfig
from nearfar.longtail.sbcl.offers import OFFERS
from nearfar.selectable import ObjectiveSettings, read_objective

Variant: TypeAlias = Literal["paper", "code"]
TemperatureKind: TypeAlias = Literal["paper", "code", "fixed"]
Rounding: TypeAlias = Literal["floor", "ceil"]
Clustering: TypeAlias = Literal["balanced", "plain"]

# The weight of the first term in the released code is temperature / 0.07.
CODE: Mapping[str, Any] = {
    "class_temperature": {"kind": "code"},
    "subclasses": {"clustering": "plain", "warm_start": False},
    "base_temperature": 0.07,
}


class SubclassConfig(Settings):
    """How classes are cut into subclasses of about the size of the smallest class."""

    enabled: bool = Field(
        True, description="After the warm-up; false leaves the warm-up's contrast to the end."
    )
    delta: int = Field(
        10, ge=1, description="Size of a subclass at least, however small the smallest class is."
    )
    rounding: Rounding = Field(
        "floor",
        description="Number of subclasses: n / size rounded down (released code), or up, so that none is larger than "
        "size (paper).",
    )
    every: int = Field(10, ge=1, description="Epochs between two clusterings.")
    clustering: Clustering = Field(
        "balanced",
        description="Sizes equal to within one; plain: k-means as it falls (what the released code runs).",
    )
    max_iter: int = Field(50, ge=1, description="Iterations of a clustering at most.")
    warm_start: bool = Field(True, description="Begin from the centres of the last clustering.")


class ClassTemperatureConfig(Settings):
    """Temperature of the second term, by class."""

    kind: TemperatureKind = Field(
        "paper",
        description="paper: temperature * exp(spread / mean spread); code: temperature * clipped spread / mean; "
        "fixed: value.",
    )
    alpha: float = Field(10.0, ge=0, description="Keeps the spread of small classes small.")
    value: float = Field(0.2, ge=0.01, le=100, description="fixed: of all classes.")


class QueueConfig(Settings):
    """Keys of earlier batches, from a slow copy of the encoder (MoCo)."""

    size: int = Field(0, ge=0, description="Keys kept; 0 contrasts within the batch.")
    momentum: float = Field(0.99, ge=0, le=1, description="Of the slow copy.")


class FilterConfig(Settings):
    """Labels that neighbours do not share are left out: each such row is then a class of its own."""

    enabled: bool = Field(False, description="Look for them once, at the end of the warm-up.")
    keep: float = Field(0.6, gt=0, le=1, description="Share of every class that is kept.")


class SBCLConfig(LongTailConfig):
    """SBCL (Hou et al., ICCV 2023). ``variant`` fills in whatever is not given."""

    variant: Variant = Field(
        "paper", description="paper; or code: what the released program computes where it differs."
    )
    temperature: float = Field(0.1, ge=0.01, le=100, description="Of subclasses, and of the warm-up.")
    beta: float = Field(0.25, ge=0, le=100, description="Weight of the second term, that of classes.")
    base_temperature: float | None = Field(
        None, gt=0, le=100, description="The first term weighs temperature / base_temperature; null is 1."
    )
    class_temperature: ClassTemperatureConfig = ClassTemperatureConfig()
    subclasses: SubclassConfig = SubclassConfig()
    warmup_epochs: float = Field(
        10, ge=0, le=1_000_000, description="The first so many epochs contrast classes, or views alone."
    )
    warmup_loss: Literal["supcon", "simclr"] = Field(
        "supcon", description="Positives of the warm-up: the class, or the other view (needs no labels)."
    )
    objective: SerializeAsAny[ObjectiveSettings] | None = Field(
        None, description="Contrast of the warm-up, by name (nearfar objectives), instead of warmup_loss."
    )
    dim: int = Field(128, ge=2, le=8192, description="Width of the projections.")
    queue: QueueConfig = QueueConfig()
    filter: FilterConfig = FilterConfig()
    groups: int = Field(
        0,
        ge=0,
        description="Subclasses in a batch, with as many rows of each as fit; 0 takes rows at random, as published.",
    )

    _read_objective = field_validator("objective", mode="before")(read_objective(OFFERS))

    @model_validator(mode="before")
    @classmethod
    def _fill_variant(cls, values: Any) -> Any:
        # Runs before groups given in part are filled up with their defaults.
        if not isinstance(values, Mapping) or values.get("variant") != "code":
            return values
        return merge(CODE, values)

    @model_validator(mode="after")
    def _objective_has_no_queue(self) -> Self:
        if self.objective is not None and self.queue.size:
            raise ValueError(
                f"queue.size: 0 expected with objective={self.objective.name}, got {self.queue.size}; an objective "
                "with a queue (moco, crd) has its own"
            )
        return self

    @model_validator(mode="after")
    def _groups_have_pairs(self) -> Self:
        if 2 * self.groups > self.batch_size:
            raise ValueError(
                f"groups: at most half of batch_size={self.batch_size} expected, so that a subclass has two rows in a "
                f"batch, got {self.groups}"
            )
        return self
