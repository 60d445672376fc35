"""Settings of AutoTCL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from nearfar.config import OptimConfig, Settings, merge
from nearfar.selectable import ObjectiveSettings, read_objective
from nearfar.timeseries.autotcl.offers import OFFERS
from nearfar.timeseries.autotcl.variants import DEFAULT, Variant, variant_settings
from nearfar.timeseries.config import TimeSeriesConfig

Kind: TypeAlias = Literal["learned", "crops", "jitter", "cutout", "random", "none"]


class AugmenterConfig(Settings):
    """Where views come from, and the network that learns to make them."""

    kind: Kind = Field(
        "learned",
        description="learned (AutoTCL); crops: two overlapping crops (TS2Vec); jitter, cutout, random: of the paper's "
        "ablation; none: the series itself.",
    )
    crops: bool = Field(False, description="Of views of any kind, contrast two overlapping crops.")
    hidden: int = Field(64, ge=1, le=8192, description="Width of the network's blocks.")
    depth: int = Field(1, ge=0, le=16, description="As of the encoder.")
    dim: int = Field(16, ge=1, le=8192, description="Width of its last block.")
    head: Literal["none", "trend"] = Field("none", description="Behind its last block.")
    lr: float = Field(1e-3, gt=0, le=10, description="Its learning rate.")
    every: int = Field(1, ge=1, description="Steps between its updates (M).")
    warmup: int = Field(0, ge=0, description="Steps in which only the encoder moves.")
    mask: bool = Field(True, description="Learn what to keep (h).")
    gain: Literal["exp", "softplus", "sigmoid", "none"] = Field(
        "exp", description="Learn what to multiply by (g): e to a bounded power, or as named; none is 1."
    )
    largest_gain: float = Field(1.0, gt=0, le=10, description="exp: bound of the logarithm.")
    per_channel: bool = Field(False, description="A mask and gain for every channel, not one for all.")
    covariates: bool = Field(False, description="Mask calendar features as well.")
    gate: Literal["concrete", "released"] = Field("concrete", description="How masks are drawn.")
    hard: bool = Field(True, description="Masks of zeros and ones, by a straight-through gradient.")
    temperature: float = Field(2 / 3, gt=0, le=100, description="concrete: of the draw.")
    stretch: float = Field(0.1, ge=0, le=1, description="How far the interval of a mask reaches below 0.")
    bias: float = Field(0.05, ge=0, lt=0.5, description="released: draws come from [bias, 1 - bias].")
    beta: float = Field(0.05, ge=0, le=10, description="Price of a kept step.")
    target_keep: float | None = Field(
        0.7, gt=0, lt=1, description="Share of kept steps that beta is steered to; null leaves beta alone."
    )
    entropy: Literal["l0", "l0_sum", "hinge"] = Field(
        "l0",
        description="What costs: the share of kept steps, their number (paper), or excess over .4 (released).",
    )
    divergence: Literal["mmd", "mmd_unbiased", "mean"] = Field(
        "mmd", description="Distance of views from originals: five Gaussian kernels, or the means' (paper)."
    )
    space: Literal["encoder", "trunk"] = Field(
        "encoder", description="Where it is measured; trunk is what the published program does."
    )
    smoothness: float = Field(0.01, ge=0, le=100, description="Weight of the triplet regulariser (lambda).")
    triplet: Literal["paper", "released"] = Field("paper", description="Which one.")


class ContrastConfig(Settings):
    """What the encoder learns from."""

    form: Literal["pooled", "hierarchical"] = Field(
        "pooled",
        description="pooled: maxima over time, and segments (paper); hierarchical: every step, at all scales (TS2Vec).",
    )
    temperature: float = Field(1.0, ge=0.01, le=100, description="Softmax temperature, of segments always 1.")
    among_series: float = Field(
        0.5, ge=0, le=1, description="hierarchical: weight of picking among series; the rest is among steps."
    )
    symmetric: bool = Field(False, description="pooled: views pick originals as well.")
    local: float = Field(0.3, ge=0, le=100, description="pooled: weight of the local loss (alpha).")
    local_on: Literal["view", "anchor"] = Field(
        "view", description="Whose segments; published program: anchor."
    )
    local_batch: Literal["all", "first"] = Field(
        "all", description="Of all series, or (released) of the first."
    )
    hidden_mask: Literal["binomial", "continuous", "mask_last", "all_true", "all_false"] = Field(
        "binomial", description="Steps hidden behind the encoder's first layer, in training."
    )
    hidden_on: Literal["both", "view"] = Field("both", description="Hide steps of the original, too?")


class AutoTCLConfig(TimeSeriesConfig):
    """AutoTCL (Zheng et al., ICLR 2024). ``variant`` fills in whatever is not given."""

    variant: Variant = Field(
        DEFAULT,
        description="released: the published program, its defects included; paper: its formulas; paper+: ours.",
    )
    batch_size: int = Field(32, ge=2, le=65_536, description="Series contrasted with each other.")
    crop: int = Field(256, ge=2, le=1_000_000, description="Steps of a training series at most.")
    sampling: Literal["sections", "anywhere"] = Field(
        "sections",
        description="Crops at one place of equal parts of the data (published), or of each its own.",
    )
    average: bool = Field(
        True, description="Evaluate the mean of all weights there were, as published; else the last."
    )
    average_power: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="average: weights after s steps count as s to this power; 0 (published): all alike.",
    )
    augmenter: AugmenterConfig = AugmenterConfig()
    contrast: ContrastConfig = ContrastConfig()
    objective: SerializeAsAny[ObjectiveSettings] | None = Field(
        None,
        description="Loss between pooled series and views, by name (nearfar objectives), in place of contrast.form's.",
    )
    optim: OptimConfig = OptimConfig(name="adamw", lr=1e-3, weight_decay=0.01)

    _read_objective = field_validator("objective", mode="before")(read_objective(OFFERS))

    @model_validator(mode="before")
    @classmethod
    def _fill_variant(cls, values: Any) -> Any:
        # Runs before groups given in part are filled up with their defaults.
        if not isinstance(values, Mapping):
            return values
        data = str(values.get("data", cls.model_fields["data"].default))
        return merge(variant_settings(str(values.get("variant", DEFAULT)), data), values)

    @property
    def crops_views(self) -> bool:
        """Whether two crops are contrasted."""
        return self.augmenter.crops or self.augmenter.kind == "crops"

    @property
    def learns_views(self) -> bool:
        """Whether there is an augmenter to train."""
        a = self.augmenter
        return a.kind == "learned" and (a.mask or a.gain != "none")
