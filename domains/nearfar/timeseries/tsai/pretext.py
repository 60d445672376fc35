"""AutoTCL around an encoder that somebody else trains: what it is shown, and what it is told.

The same as :class:`nearfar.timeseries.autotcl.method.AutoTCL` with the encoder's forward pass, backward pass and step
left to fastai. Steps cannot be hidden behind a tsai model's first layer, so they are zeros of its input; the divergence
is measured in the encoder's space for every variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.objectives import contrast
from nearfar.objectives.statistics import alignment, uniformity
from nearfar.runtime import generator, initial_weights, stream_seed
from nearfar.timeseries.autotcl.augmenter import Augmenter
from nearfar.timeseries.autotcl.keep_rate import KeepRate
from nearfar.timeseries.autotcl.local_contrast import local_contrast
from nearfar.timeseries.autotcl.mmd import divergence
from nearfar.timeseries.autotcl.relevance import price
from nearfar.timeseries.autotcl.triplet import released_triplet_loss, triplet_loss
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
        self._config = a = settings.augmenter
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
        a = self._config
        valid = ~x.isnan().any(2)
        with torch.enable_grad(), held_fixed(self.encoder):
            drawn = self.augmenter(x, self._rng(x, "gate", step, 0))
            with torch.no_grad():
                original = max_pool(self.encoder(x), valid)
            view = max_pool(self.encoder(drawn.apply(x)), valid)
            terms = {"divergence": divergence(original, view, a.divergence)}
            loss = terms["divergence"]
            if a.mask:
                smoothness = triplet_loss if a.triplet == "paper" else released_triplet_loss
                terms["triplet"] = smoothness(drawn.pi, self._rng(x, "triplet", step))
                terms["price"] = price(drawn.logits, self.augmenter.gate, a.entropy)
                loss = loss + self.keep_rate.beta * terms["price"] + a.smoothness * terms["triplet"]
            self.optimizer.zero_grad()
            loss.backward()
        self.optimizer.step()
        if a.mask:
            kept = self.augmenter.gate.keep_probability(drawn.logits.detach())
            self.keep_rate.update(kept.mean())
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def show(self, x: Tensor, number: int, *, training: bool) -> Shown:
        """What the encoder is given; without chance outside training, where nothing is hidden either.

        Args:
            x: Series, shape ``(B, T, F)``; NaN is missing.
            number: Of the batch.
            training: Whether masks are drawn.
        """
        drawn = self.augmenter(x, self._rng(x, "gate", number, 1) if training else None)
        both = torch.cat([x, drawn.apply(x)])
        missing = both.isnan()
        valid = ~missing.any(2)
        seen = valid[..., None]
        if training:
            hidden = hidden_mask(both, self.contrast.hidden_mask, self._rng(x, "hidden", number))
            seen = seen if hidden is None else seen & hidden
        inputs = torch.where(seen, torch.where(missing, 0, both), 0)
        draws = ("segments" if training else "segments, validation", number)
        kept = self.augmenter.gate.keep_probability(drawn.logits).mean()
        return Shown(inputs, valid, kept, draws)

    def loss(self, states: Tensor, shown: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """Pick the view of a series among the views of all, and segments among segments.

        Args:
            states: What the encoder makes of ``shown.inputs``, shape ``(2B, T, D)``.
            shown: What it was given.

        Returns:
            The loss and what is worth knowing beside it (:data:`TERMS`), scalars.
        """
        c = self.contrast
        anchors, views = max_pool(states, shown.valid).chunk(2)
        loss = contrast(anchors, views, temperature=c.temperature, symmetric=c.symmetric)
        if c.local > 0:
            z = states.chunk(2)[1 if c.local_on == "view" else 0]
            z = z if c.local_batch == "all" else z[:1]
            loss = loss + c.local * local_contrast(z, self._rng(states, *shown.draws))
        with torch.no_grad():
            told = {
                "keep": shown.keep,
                "align": alignment(anchors, views),
                # Of pairs, which a single series does not have.
                "uniform": uniformity(anchors) if len(anchors) > 1 else anchors.new_zeros(()),
                "divergence": divergence(anchors, views),
            }
        return loss, told

    def _rng(self, like: Tensor, name: str, *counters: int) -> torch.Generator:
        """A stream on the device of the batch: nothing waits for a copy."""
        return generator(self.settings.seed, name, *counters, device=like.device)
