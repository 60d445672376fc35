"""Next-item cross-entropy: over all items, or over a sample that all targets of a step share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.objectives.linear_cross_entropy import linear_cross_entropy
from nearfar.objectives.sampled_softmax import sampled_softmax
from nearfar.recsys.config import SoftmaxConfig
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch


def scored_states(encoder: SASRecEncoder, batch: SequenceBatch) -> Tensor:
    """States before the scored targets of a batch, shape ``(T, d)``."""
    states: Tensor = encoder(batch.items)
    return states.flatten(0, 1).index_select(0, batch.places)


def next_item_loss(encoder: SASRecEncoder, batch: SequenceBatch) -> Tensor:
    """Cross-entropy summed over the scored targets of a batch, softmax over all items."""
    states = scored_states(encoder, batch)
    return linear_cross_entropy(states, encoder.item.weight[1:], batch.classes, reduction="sum")


class NextItemLoss(nn.Module):
    """Cross-entropy of targets, summed; padding is no class.

    Args:
        config: Which items a target is compared with.
        split: Its training events say how popular items are.
    """

    draw_probability: Tensor

    def __init__(self, config: SoftmaxConfig, split: LeaveOneOut) -> None:
        super().__init__()
        self.config = config
        counts = np.ones(split.data.num_items)
        if config.sampling == "popularity":
            # One more each: an item nobody has trained on can be drawn, too.
            counts += split.item_counts()
        # Follows from the data, so it is moved with the method and not stored with it.
        probability = torch.from_numpy(counts / counts.sum()).float()
        self.register_buffer("draw_probability", probability, persistent=False)
        self._cumulated = probability.double().cumsum(0)  # draws are made in host memory

    def draw(self, rng: torch.Generator) -> Tensor:
        """The items of a step that its targets are compared with, as classes from 0, ``(K,)``.

        Args:
            rng: On the CPU; the draws do not depend on the device.
        """
        count = self.config.negatives or 0
        device = self.draw_probability.device
        if self.config.sampling == "uniform":
            return torch.randint(len(self.draw_probability), (count,), generator=rng).to(device)
        # Where the cumulated probabilities pass a uniform number: multinomial() would visit every item.
        steps = self._cumulated
        drawn = torch.searchsorted(steps, torch.rand(count, generator=rng, dtype=torch.float64) * steps[-1])
        return drawn.clamp(max=len(steps) - 1).to(device)

    def forward(
        self, encoder: SASRecEncoder, states: Tensor, targets: Tensor, draws: Tensor | None
    ) -> Tensor:
        """Summed over rows.

        Args:
            encoder: Its item vectors are the classes.
            states: Shape ``(T, d)``.
            targets: Classes from 0, shape ``(T,)``.
            draws: From :meth:`draw`, shape ``(K,)``; ``None`` compares with all items.
        """
        items, c = encoder.item.weight[1:], self.config
        if draws is None:
            return linear_cross_entropy(
                states,
                items,
                targets,
                label_smoothing=c.label_smoothing,
                reduction="sum",
                logit_dtype=c.logit_dtype,
            )
        expected = (self.draw_probability[draws] * len(draws)).log() if c.logq_correction else None
        return sampled_softmax(states, items, targets, draws, expected, reduction="sum")
