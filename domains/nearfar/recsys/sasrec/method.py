"""SASRec as a method: position-parallel next-item cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch
from nearfar.runtime import generator, isolated_rng
from nearfar.training import Method, StepContext, StepOutput


def next_item_loss(encoder: SASRecEncoder, batch: SequenceBatch) -> Tensor:
    """Cross-entropy summed over the scored targets of a batch, softmax over all items.

    Padding is no class: the softmax has ``num_items`` entries.
    """
    states = encoder(batch.items)
    scored = batch.targets > 0
    return F.cross_entropy(encoder.logits(states[scored]), batch.targets[scored] - 1, reduction="sum")


class SASRec(Method):
    """SASRec (Kang and McAuley, ICDM 2018) with full softmax instead of one sampled negative.

    Args:
        config: Sizes and dropout.
        split: Training histories; fixes the number of items.
    """

    def __init__(self, config: SequenceModelConfig, split: LeaveOneOut) -> None:
        super().__init__()
        with isolated_rng():
            self.scorer = SASRecEncoder(
                split.data.num_items,
                max_length=config.max_length,
                dim=config.dim,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                inner_dim=config.inner_dim,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                generator=generator(config.seed, "init"),
            )

    def step(self, batch: SequenceBatch, ctx: StepContext) -> StepOutput:
        """Mean cross-entropy over the targets of all processes."""
        loss = self._recommendation_loss(batch, ctx)
        return StepOutput(loss, {"rec": loss})

    def _recommendation_loss(self, batch: SequenceBatch, ctx: StepContext) -> Tensor:
        # Gradients are averaged over processes, so each one scales its sum by how many they are.
        return next_item_loss(self.scorer, batch) * (ctx.runtime.world_size / batch.num_targets)
