r"""The network that makes views: what to keep (h) and what to multiply it by (g).

.. math:: x^* = h(x) \odot x, \qquad v^* = g(x) \odot x^*

(Zheng et al., ICLR 2024, section 3.2.) h drops what does not matter; g is never 0, so that :math:`x^*` can be had back
from the view: nothing that matters is lost. A view is data of the shared augmentation core
(:class:`nearfar.augment.series.ViewParams`) and composes with every other operation.

Gains are e to a bounded power by default. The published program ends in a sigmoid, which learns zeros and loses what it
should keep (``gain=sigmoid``); it also masks calendar features, and every channel on its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.augment.series import ViewParams
from nearfar.timeseries.autotcl.config import AugmenterConfig
from nearfar.timeseries.autotcl.gate import Gate, HardConcrete, ReleasedGate
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder

SMALLEST_GAIN = 0.1  # of softplus


@dataclass(frozen=True, eq=False)
class LearnedView:
    """What the network makes of a batch.

    Attributes:
        params: The view, for ``params.apply(x)``.
        logits: Of keeping a step, shape ``(B, T, A)``.
        mask: h, shape ``(B, T, A)``.
        gain: g, shape ``(B, T, A)``.
    """

    params: ViewParams
    logits: Tensor
    mask: Tensor
    gain: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """The view, with finite gradients where steps are missing.

        Args:
            x: The batch, shape ``(B, T, F)``; NaN is missing, and stays.
        """
        missing = x.isnan()
        return self.params.apply(x.masked_fill(missing, 0)).masked_fill(missing, torch.nan)

    @property
    def pi(self) -> Tensor:
        """Probabilities, shape ``(B, T, A)``."""
        return self.logits.sigmoid()


class Augmenter(nn.Module):
    """A small encoder with two linear heads.

    Args:
        num_channels: F.
        config: Sizes, gate and gain.
        num_covariates: How many channels, the first ones, are calendar features.
        normalize: As of the encoder.

    Attributes:
        gate: How masks are drawn.
    """

    def __init__(
        self,
        num_channels: int,
        config: AugmenterConfig,
        *,
        num_covariates: int = 0,
        normalize: str = "none",
    ) -> None:
        super().__init__()
        self.config, self.num_channels = config, num_channels
        self.untouched = 0 if config.covariates else num_covariates
        self.network = SeriesEncoder(
            num_channels,
            dim=config.dim,
            hidden=config.hidden,
            depth=config.depth,
            head=config.head,
            dropout=0.0,
            normalize=normalize,  # type: ignore[arg-type]
            num_covariates=num_covariates,
        )
        outputs = num_channels - self.untouched if config.per_channel else 1
        self.keep = nn.Linear(config.dim, outputs) if config.mask else None
        self.scale = nn.Linear(config.dim, outputs) if config.gain != "none" else None
        self.gate = gate_of(config)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LearnedView:
        """The view of a batch.

        Args:
            x: Series, shape ``(B, T, F)``; NaN is missing.
            generator: Source of the mask; ``None`` takes the mask without chance.
        """
        states = self.network(x)
        one = states.new_ones(()).expand(*states.shape[:2], 1)
        if self.keep is None:
            logits, mask = one * math.inf, one
        else:
            logits = self.keep(states)
            mask = self.gate.typical(logits) if generator is None else self.gate.sample(logits, generator)
        gain = one if self.scale is None else self._gain(self.scale(states))
        return LearnedView(ViewParams(gain=self._of_channels(mask * gain)), logits, mask, gain)

    def _gain(self, raw: Tensor) -> Tensor:
        if self.config.gain == "exp":
            return (self.config.largest_gain * raw.tanh()).exp()
        if self.config.gain == "softplus":
            # 1 where raw is 0.
            return SMALLEST_GAIN + F.softplus(raw + math.log(math.expm1(1 - SMALLEST_GAIN)))
        return raw.sigmoid()

    def _of_channels(self, factor: Tensor) -> Tensor:
        if self.untouched == 0:
            return factor
        rows, steps, _ = factor.shape
        signal = factor.expand(rows, steps, self.num_channels - self.untouched)
        return torch.cat([factor.new_ones(rows, steps, self.untouched), signal], 2)


def gate_of(config: AugmenterConfig) -> Gate:
    """The gate that settings ask for.

    Args:
        config: Kind and numbers.

    Example:
        >>> gate_of(AugmenterConfig(stretch=0.25)).low
        -0.25
    """
    if config.gate == "released":
        return ReleasedGate(hard=config.hard, stretch=config.stretch, bias=config.bias)
    stretch = max(config.stretch, 1e-6)
    return HardConcrete(hard=config.hard, temperature=config.temperature, low=-stretch, high=1 + stretch)
