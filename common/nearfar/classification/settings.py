"""Settings of the data that classifiers and representations are trained on: how they are spoilt, which encoder."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from nearfar.config import Settings

NoiseKind: TypeAlias = Literal["imb", "sym", "sym-inclusive", "pair", "pair-next", "rolt-new"]
EncoderName: TypeAlias = Literal["auto", "small_cnn", "resnet32", "resnet18", "mlp", "identity"]


class ImbalanceConfig(Settings):
    """How the classes of the training part are thinned out."""

    ratio: float | None = Field(
        10.0,
        ge=1,
        le=100_000,
        description="Largest class to smallest; 1 keeps them equal; null takes the sizes that belong to the data, or "
        "all rows.",
    )
    profile: Literal["exp", "step"] = Field("exp", description="Sizes fall geometrically, or in one step.")
    largest: int | None = Field(None, ge=1, description="Rows of the largest class; null is all it has.")

    @model_validator(mode="after")
    def _sizes_have_one_source(self) -> Self:
        if self.ratio is None and self.largest is not None:
            raise ValueError(f"imbalance.largest={self.largest}: needs imbalance.ratio, got null; give both")
        return self


class NoiseConfig(Settings):
    """How labels of the training part are made wrong, after it was thinned out."""

    rate: float = Field(0.4, ge=0, lt=1, description="Share of wrong labels.")
    kind: NoiseKind = Field(
        "imb",
        description="imb: to other classes by their size (RCAL); sym, sym-inclusive, pair, pair-next, rolt-new.",
    )
