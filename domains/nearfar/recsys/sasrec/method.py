"""SASRec as a method: position-parallel next-item cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime, generator, isolated_rng
from nearfar.training import BatchSource, Method, StepContext, StepOutput


def next_item_loss(encoder: SASRecEncoder, batch: SequenceBatch) -> Tensor:
    """Cross-entropy summed over the scored targets of a batch, softmax over all items.

    Padding is no class: the softmax has ``num_items`` entries.
    """
    states = encoder(batch.items).flatten(0, 1).index_select(0, batch.places)
    targets = batch.targets.flatten().index_select(0, batch.places) - 1
    return F.cross_entropy(encoder.logits(states), targets, reduction="sum")


class SASRec(Method):
    """SASRec (Kang and McAuley, ICDM 2018) with full softmax instead of one sampled negative.

    Args:
        config: Sizes and dropout.
        split: Training histories; fixes the number of items.
    """

    chunkable = True
    memory_settings: ClassVar[tuple[str, ...]] = ("targets_per_batch", "max_length", "dim")

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

    @staticmethod
    def batches(config: SequenceModelConfig, split: LeaveOneOut, runtime: Runtime) -> BatchSource:
        """Windows of the training histories."""
        return WindowBatches.of(config, split, runtime)

    def step(self, batch: SequenceBatch, ctx: StepContext) -> StepOutput:
        """Mean cross-entropy over the targets of all processes."""
        loss = self.recommendation_loss(batch, ctx)
        return StepOutput(loss, {"rec": loss}, descended=ctx.chunks > 1)

    def recommendation_loss(self, batch: SequenceBatch, ctx: StepContext) -> Tensor:
        """Its share of the mean cross-entropy; in several chunks it also descends, and comes without graph.

        Args:
            batch: Windows of this process.
            ctx: Of the step.
        """
        # Gradients are averaged over processes, so each one scales its sum by how many they are.
        scale = ctx.runtime.world_size / batch.num_targets
        if ctx.chunks == 1:
            return next_item_loss(self.scorer, batch) * scale
        # A sum over windows: the gradients of the chunks add up to those of the whole.
        losses = []
        for chunk in batch.chunks(ctx.chunks):
            loss = next_item_loss(self.scorer, chunk) * scale
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()
