"""Settings of RCAL, and of what is left when parts of it are taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from nearfar.calibration.config import CalibrationConfig
from nearfar.calibration.rcal.offers import OFFERS
from nearfar.config import Settings, merge
from nearfar.config.run import OptimizerName
from nearfar.selectable import ObjectiveSettings, read_objective

Variant: TypeAlias = Literal["paper", "paper+"]
Outlier: TypeAlias = Literal["none", "lof", "knn"]
Weighting: TypeAlias = Literal["paper", "inverse", "uniform"]
Ridge: TypeAlias = Literal["ones", "eye"]

PAPER: Mapping[str, Any] = {"real_rows": "all", "gaussians": {"outlier": "lof"}}


class PretrainConfig(Settings):
    """The first stage: contrast of two views, without labels."""

    epochs: float = Field(
        120, ge=0, le=1_000_000, description="The first so many epochs of the run; 0 skips the stage."
    )
    kind: Literal["simclr", "moco"] = Field(
        "simclr", description="Negatives from the batch (better on small data), or from a queue (paper)."
    )
    batch_size: int | None = Field(
        None, ge=2, le=65_536, description="Rows of a step; null is that of the second stage."
    )
    optimizer: OptimizerName = Field("adam", description="Of this stage.")
    lr: float = Field(1e-3, gt=0, le=10, description="Peak learning rate; falls to 0 along a cosine.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Weight decay.")
    temperature: float = Field(0.2, ge=0.01, le=100, description="Of the contrast.")
    dim: int = Field(64, ge=2, le=8192, description="Width of the projections.")
    queue: int = Field(4096, ge=1, description="moco: keys kept.")
    momentum: float = Field(0.99, ge=0, le=1, description="moco: of the key encoder.")


class GaussiansConfig(Settings):
    """Distributional calibration: one Gaussian a class, those of the tail moved towards their nearest heads."""

    enabled: bool = Field(True, description="Train the classifier on draws from them as well.")
    outlier: Outlier = Field(
        "knn", description="Rows left out of them: lof (paper), knn (labels their neighbours do not have)."
    )
    keep: float = Field(0.6, gt=0, le=1, description="knn: share of every class that is kept.")
    threshold: float = Field(1.5, gt=0, description="lof: factors above it are outliers.")
    q: int = Field(3, ge=1, description="Head classes a tail class borrows from.")
    gamma: float = Field(0.3, ge=0, le=1, description="How much it borrows; the paper gives no value.")
    alpha: float = Field(0.01, ge=0, description="Ridge of the borrowed covariance.")
    weighting: Weighting = Field(
        "paper", description="Of heads: paper (farther ones more), inverse (nearer ones more), uniform."
    )
    ridge: Ridge = Field("ones", description="ones: alpha in every entry (paper); eye: on the diagonal.")
    head_mass: float = Field(0.5, gt=0, le=1, description="Share of all rows that head classes hold.")
    draws: Literal["equal", "fill"] = Field(
        "equal", description="Draws of a class: as of every other, or what it lacks to the largest."
    )
    lr: float = Field(0.1, gt=0, le=10, description="Learning rate of the head on draws, constant.")


class RCALConfig(CalibrationConfig):
    """RCAL (Zhang et al., ICCV 2023). ``epochs`` counts both stages; ``variant`` fills in whatever is not given."""

    variant: Variant = Field(
        "paper+",
        description="paper: its filter, and every row is trained on; paper+: rows whose label neighbours share.",
    )
    pretrain: PretrainConfig = PretrainConfig()
    objective: SerializeAsAny[ObjectiveSettings] | None = Field(
        None,
        description="Contrast of the first stage, by name (nearfar objectives), instead of pretrain.kind.",
    )
    gaussians: GaussiansConfig = GaussiansConfig()
    beta: float = Field(0.3, ge=0, le=100, description="Price of leaving the representations of stage one.")
    reg_on: Literal["plain", "mixed"] = Field(
        "plain", description="Measured on the rows themselves (a second pass), or on their mixture."
    )
    mixup: float = Field(1.0, ge=0, le=100, description="Of Beta(a, a); 0 mixes nothing.")
    loss: Literal["cross_entropy", "balanced_softmax"] = Field(
        "cross_entropy", description="On real rows; draws have no prior to correct."
    )
    real_rows: Literal["all", "kept"] = Field(
        "kept", description="Rows trained on: all (paper), or those the filter keeps."
    )
    head_lr: float = Field(0.1, gt=0, le=100, description="Peak learning rate of the head on real rows.")
    milestones: tuple[int, ...] = Field(
        (60, 80), description="Epochs of stage two after which rates on real rows fall to a tenth."
    )

    _read_objective = field_validator("objective", mode="before")(read_objective(OFFERS))

    @model_validator(mode="before")
    @classmethod
    def _fill_variant(cls, values: Any) -> Any:
        # Runs before groups given in part are filled up with their defaults.
        if not isinstance(values, Mapping) or values.get("variant") != "paper":
            return values
        return merge(PAPER, values)

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if self.pretrain.epochs > self.epochs:
            raise ValueError(
                f"pretrain.epochs: at most epochs={self.epochs} expected, got {self.pretrain.epochs:g}; epochs counts "
                "both stages"
            )
        return self

    @property
    def uses_stage_one(self) -> bool:
        """Whether the second stage looks at the representations of the first."""
        return self.beta > 0 or self.gaussians.enabled or self.real_rows == "kept"
