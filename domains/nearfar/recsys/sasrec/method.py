"""SASRec as a method: position-parallel next-item cross-entropy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nearfar.config import OptimConfig
from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.sasrec.loss import NextItemLoss, scored_states
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime, generator, isolated_rng
from nearfar.training import EMA, BatchSource, Method, StepContext, StepOutput
from nearfar.training.optim import build_optimizer


class SASRec(Method):
    """SASRec (Kang and McAuley, ICDM 2018) with softmax cross-entropy instead of one sampled negative.

    Args:
        config: Sizes, dropout and the softmax.
        split: Training histories; fixes the number of items.

    Attributes:
        encoder: What is trained.
        average: Its averaged weights, or ``None``.
    """

    chunkable = True
    memory_settings: ClassVar[tuple[str, ...]] = ("targets_per_batch", "max_length", "dim")

    def __init__(self, config: SequenceModelConfig, split: LeaveOneOut) -> None:
        super().__init__()
        with isolated_rng():
            self.encoder = SASRecEncoder(
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
        self.next_item_loss = NextItemLoss(config.softmax, split)
        self.average = None if config.average is None else EMA(self.encoder, config.average)

    @property
    def scorer(self) -> SASRecEncoder:
        """What is evaluated and kept: the encoder, or the average of its weights."""
        if self.average is None:
            return self.encoder
        averaged = self.average.module
        assert isinstance(averaged, SASRecEncoder)
        return averaged

    @staticmethod
    def batches(config: SequenceModelConfig, split: LeaveOneOut, runtime: Runtime) -> BatchSource:
        """Windows of the training histories."""
        return WindowBatches.of(config, split, runtime)

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """One, over the encoder."""
        return {"main": build_optimizer(self.encoder.parameters(), config)}

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
        if ctx.chunks == 1:
            return self.mean_loss(scored_states(self.encoder, batch), batch, ctx)
        # A sum over windows: the gradients of the chunks add up to those of the whole.
        losses = []
        for chunk in batch.chunks(ctx.chunks):
            loss = self.mean_loss(scored_states(self.encoder, chunk), chunk, ctx)
            with torch.autocast(loss.device.type, enabled=False):
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def mean_loss(self, states: Tensor, batch: SequenceBatch, ctx: StepContext) -> Tensor:
        """Share of some states in the mean cross-entropy.

        Args:
            states: Before the scored targets of ``batch``, shape ``(T, d)``.
            batch: Windows, all or some of this process's.
            ctx: Of the step.
        """
        draws = None
        if self.next_item_loss.config.negatives is not None:
            draws = self.next_item_loss.draw(ctx.rng("negatives"))
        # Gradients are averaged over processes, so each one scales its sum by how many they are.
        scale = ctx.runtime.world_size / batch.num_targets
        total: Tensor = self.next_item_loss(self.encoder, states, batch.classes, draws)
        return total * scale

    def after_step(self, ctx: StepContext) -> None:
        """Move the average, faster at first: it should not remember the initial weights."""
        if self.average is not None:
            self.average.update(self.encoder, min(self.average.momentum, (1 + ctx.step) / (10 + ctx.step)))
