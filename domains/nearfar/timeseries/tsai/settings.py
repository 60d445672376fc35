"""What the callback can be told; those of :mod:`nearfar.timeseries.autotcl.config` under flat, short names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nearfar.config import OptimConfig, Settings, merge
from nearfar.timeseries.autotcl.config import AugmenterConfig, ContrastConfig
from nearfar.timeseries.autotcl.variants import VARIANTS, Variant

HiddenMask = Literal["binomial", "continuous", "mask_last", "all_true", "all_false"]


class CallbackSettings(Settings):
    """Sizes and weights of AutoTCL where the encoder is somebody else's.

    Example:
        >>> settings = CallbackSettings(aug_dim=8, tau=0.5)
        >>> settings.augmenter.dim, settings.contrast.temperature
        (8, 0.5)
        >>> CallbackSettings(variant="released").augmenter.gate
        'released'
    """

    aug_dim: int = Field(16, ge=1, le=8192, description="Width of the augmenter's last block.")
    aug_depth: int = Field(1, ge=0, le=16, description="Its last dilation is 2 to this power.")
    aug_hidden: int = Field(64, ge=1, le=8192, description="Width of its blocks.")
    lr_aug: float = Field(1e-3, gt=0, le=10, description="Its learning rate.")
    M: int = Field(1, ge=1, description="Batches between its updates.")
    beta: float = Field(0.05, ge=0, le=10, description="Price of a kept step, at the start.")
    lam: float = Field(0.01, ge=0, le=100, description="Weight of the triplet regulariser.")
    alpha: float = Field(0.3, ge=0, le=100, description="Weight of the local loss.")
    tau: float = Field(0.2, ge=0.01, le=100, description="Softmax temperature of the global loss.")
    hard: bool = Field(True, description="Masks of zeros and ones, by a straight-through gradient.")
    mask_mode: HiddenMask = Field("binomial", description="Steps hidden from the encoder, in training.")
    variant: Variant = Field("paper", description="What decides all that has no name here.")
    average: bool = Field(True, description="Keep the mean of all weights there were.")
    target_keep: float | None = Field(
        0.7, gt=0, lt=1, description="Share of kept steps that beta is steered to; null leaves beta alone."
    )
    seed: int = Field(0, ge=0, description="Of the augmenter's weights and all draws.")

    @property
    def augmenter(self) -> AugmenterConfig:
        """Of the augmenter."""
        return AugmenterConfig(
            **self._variant(
                "augmenter",
                dim=self.aug_dim,
                depth=self.aug_depth,
                hidden=self.aug_hidden,
                lr=self.lr_aug,
                every=self.M,
                beta=self.beta,
                smoothness=self.lam,
                hard=self.hard,
                target_keep=self.target_keep,
            )
        )

    @property
    def contrast(self) -> ContrastConfig:
        """Of what the encoder learns from."""
        return ContrastConfig(
            **self._variant("contrast", local=self.alpha, temperature=self.tau, hidden_mask=self.mask_mode)
        )

    @property
    def optim(self) -> OptimConfig:
        """Of the augmenter's optimiser."""
        return OptimConfig(name="adamw", lr=self.lr_aug, weight_decay=0.01)

    def _variant(self, group: str, **given: Any) -> dict[str, Any]:
        return merge(VARIANTS[self.variant].get(group, {}), given)
