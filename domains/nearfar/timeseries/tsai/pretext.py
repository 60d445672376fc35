"""AutoTCL around an encoder that somebody else trains: what it is shown, and what it is told.

The same as :class:`nearfar.timeseries.autotcl.method.AutoTCL` with the encoder's forward pass, backward pass and step
left to fastai. Steps cannot be hidden behind a tsai model's first layer, so they are zeros of its input; the divergence
is measured in the encoder's space for every variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.objectives.mmd import divergence
from nearfar.objectives.statistics import alignment, uniformity
from nearfar.runtime import generator, initial_weights, stream_seed
from nearfar.timeseries.autotcl.augmenter import Augmenter
from nearfar.timeseries.autotcl.keep_rate import KeepRate
from nearfar.timeseries.autotcl.objective import augmenter_loss, contrast_loss, kept_share
from nearfar.timeseries.autotcl.views import hidden_mask
from nearfar.timeseries.encoder.pooling import max_pool
from nearfar.timeseries.encoder.tsai_encoder import TsaiEncoder
from nearfar.timeseries.tsai.frozen import held_fixed
from nearfar.timeseries.tsai.settings import CallbackSettings
from nearfar.training.optim import build_optimizer

TERMS = ("keep", "align", "uniform", "divergence")


@dataclass(frozen=True, eq=False)
class Shown:
    """What the encoder is given for a batch.

    Attributes:
        inputs: The series and then their views, zeros where missing or hidden, shape ``(2B, T, F)``.
        valid: Steps that are not missing, bool, shape ``(2B, T)``.
        keep: Mean probability of keeping a step, a scalar.
        draws: Names and numbers of the streams of random numbers.
    """

    inputs: Tensor
    valid: Tensor
    keep: Tensor
    draws: tuple[str, int]


class Pretext:
    """Views for an encoder, the loss of what it makes of them, and the augmenter that learns to make views.

    Args:
        model: A tsai model with a backbone.
        num_channels: F.
        settings: Sizes and weights.

    Attributes:
        encoder: The model's backbone, as ours are called.
        augmenter: What is trained here.
        keep_rate: Price of a kept step.
        optimizer: Of the augmenter.

    Raises:
        ConfigError: If the model has no backbone.
    """

    def __init__(self, model: nn.Module, num_channels: int, settings: CallbackSettings) -> None:
        self.settings, self.contrast = settings, settings.contrast
        self.encoder = TsaiEncoder(model, num_channels)
        a = settings.augmenter
        device = next(model.parameters()).device
        with initial_weights(stream_seed(settings.seed, "init")):
            self.augmenter = Augmenter(num_channels, a).to(device)
        self.keep_rate = KeepRate(a.beta, a.target_keep).to(device)
        self.optimizer = build_optimizer(self.augmenter.parameters(), settings.optim)

    def train_augmenter(self, x: Tensor, step: int) -> dict[str, Tensor]:
        """One step of the augmenter: keep little, stay close, change slowly. The encoder is held fixed.

        Args:
            x: Series, shape ``(B, T, F)``; NaN is missing.
            step: Numbers the draws.

        Returns:
            Parts of the loss, scalars.
        """
        valid = ~x.isnan().any(2)
        with torch.enable_grad(), held_fixed(self.encoder):
            drawn = self.augmenter(x, self._rng("gate", step, 0))
            with torch.no_grad():
                original = max_pool(self.encoder(x), valid)
            view = max_pool(self.encoder(drawn.apply(x)), valid)
            beta, rng = self.keep_rate.beta, self._rng("triplet", step)
            loss, terms = augmenter_loss(self.augmenter, drawn, original, view, beta, rng)
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        if self.augmenter.config.mask:
            self.keep_rate.update(kept_share(self.augmenter, drawn))
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def show(self, x: Tensor, number: int, *, training: bool) -> Shown:
        """What the encoder is given; without chance outside training, where nothing is hidden either.

        Args:
            x: Series, shape ``(B, T, F)``; NaN is missing.
            number: Of the batch.
            training: Whether masks are drawn.
        """
        drawn = self.augmenter(x, self._rng("gate", number, 1) if training else None)
        both = torch.cat([x, drawn.apply(x)])
        missing = both.isnan()
        valid = ~missing.any(2)
        seen = valid[..., None]
        if training:
            hidden = hidden_mask(both, self.contrast.hidden_mask, self._rng("hidden", number))
            seen = seen if hidden is None else seen & hidden
        inputs = torch.where(seen, torch.where(missing, 0, both), 0)
        draws = ("segments" if training else "segments, validation", number)
        return Shown(inputs, valid, kept_share(self.augmenter, drawn), draws)

    def loss(self, states: Tensor, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """Pick the view of a series among the views of all, and segments among segments.

        Args:
            states: What the encoder makes of ``shown.inputs``, shape ``(2B, T, D)``.
            shown: What it was given.

        Returns:
            The loss and what is worth knowing beside it (:data:`TERMS`), scalars.
        """
        rng = self._rng(*shown.draws)
        loss, _, (anchors, views) = contrast_loss(states, shown.valid, self.contrast, rng)
        with torch.no_grad():
            told = {
                "keep": shown.keep,
                "align": alignment(anchors, views),
                # Of pairs, which a single series does not have.
                "uniform": uniformity(anchors) if len(anchors) > 1 else anchors.new_zeros(()),
                "divergence": divergence(anchors, views),
            }
        return loss, told

    def _rng(self, name: str, *counters: int) -> torch.Generator:
        """A stream of the CPU: the same draws on every device."""
        return generator(self.settings.seed, name, *counters)
