"""Settings of the second stage."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pydantic import Field

from nearfar.config import Settings

Kind: TypeAlias = Literal[
    "balanced_lr", "crt", "ldam_drw", "balanced_softmax", "logit_adjustment", "nearest_mean", "knn"
]
KINDS: tuple[str, ...] = get_args(Kind)


class HeadConfig(Settings):
    """Which classifier of frozen features, and how it is trained."""

    kind: Kind = Field(
        "balanced_lr",
        description="balanced_lr: logistic regression, all classes weigh the same; crt: batches with as much of every "
        "class; ldam_drw: cosines, wider margins for rare classes; balanced_softmax; logit_adjustment: cross-entropy, "
        "then less the prior; nearest_mean; knn.",
    )
    strength: float = Field(
        1.0, gt=0, description="balanced_lr: inverse strength of the penalty, C of scikit-learn."
    )
    standardize: bool = Field(
        True,
        description="crt, balanced_softmax, logit_adjustment: train on columns of mean 0 and deviation 1, whatever "
        "the scale of the encoder; false trains on features as they are, as published.",
    )
    epochs: int | None = Field(
        None, ge=1, le=1_000_000, description="Passes by gradient; null is 45 for crt and 200 for others."
    )
    batch_size: int = Field(128, ge=1, le=1_000_000, description="Rows of a step.")
    lr: float = Field(0.1, gt=0, le=10, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Share of the last step in the next.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Weight decay.")
    margin: float = Field(
        0.5, ge=0, le=2, description="ldam_drw: of the rarest class, in units of the cosine."
    )
    scale: float = Field(
        30.0, gt=0, le=1000, description="ldam_drw, nearest_mean: a logit is it times a cosine."
    )
    effective: float = Field(
        0.9999, ge=0, lt=1, description="ldam_drw: beta of the effective number of items; 0 weighs no class."
    )
    drw_from: float = Field(
        0.0,
        ge=0,
        le=1,
        description="ldam_drw: share of the passes after which classes are weighted; 0 is what SBCL's released code "
        "does, 0.8 what the LDAM paper does.",
    )
    tau: float = Field(1.0, ge=0, le=100, description="logit_adjustment: strength; 0 is plain cross-entropy.")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="nearest_mean: of the distance.")
    neighbors: int | None = Field(
        None, ge=1, description="knn: rows that vote; null is 10, growing to 50 at 10,000 rows."
    )
