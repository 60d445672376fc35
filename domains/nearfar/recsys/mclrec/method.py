r"""MCLRec as a method: next-item loss plus the contrast of two augmented views of histories.

.. math:: L = L_{rec} + \lambda L_{cl1}

Differs from the official code: the next-item loss is position-parallel over whole windows (equal to its
one row per prefix), while the contrast is taken over ``contrast.rows`` prefixes drawn uniformly from all
training prefixes, the law by which the official batches are drawn. Its learnable augmenters (L_cl2 and
the regulariser R) are not part of this module yet.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from nearfar.objectives import contrast
from nearfar.recsys.mclrec.batches import ContrastBatch, ContrastBatches
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.sasrec.method import SASRec
from nearfar.recsys.split import LeaveOneOut
from nearfar.runtime import Runtime
from nearfar.training import BatchSource, StepContext, StepOutput, chunked_backward


class MCLRec(SASRec):
    """SASRec regularised by contrast between augmented histories.

    Args:
        config: Sizes, dropout and the contrast.
        split: Training histories; fixes the number of items.
    """

    memory_settings: ClassVar[tuple[str, ...]] = (*SASRec.memory_settings, "contrast.rows")

    def __init__(self, config: MCLRecConfig, split: LeaveOneOut) -> None:
        super().__init__(config, split)
        self.contrast = config.contrast

    @staticmethod
    def batches(config: MCLRecConfig, split: LeaveOneOut, runtime: Runtime) -> BatchSource:  # type: ignore[override]
        """Windows of the training histories, and prefixes to contrast."""
        return ContrastBatches(config, split, runtime)

    def step(self, batch: ContrastBatch, ctx: StepContext) -> StepOutput:  # type: ignore[override]
        """Next-item loss of the windows plus the contrast of the views."""
        rec = self.recommendation_loss(batch.windows, ctx)
        weight = self.contrast.weight
        if weight == 0:
            return StepOutput(rec, {"rec": rec}, descended=ctx.chunks > 1)
        if ctx.chunks == 1:
            cl1 = self.view_contrast(self.encoder.last(batch.items, batch.lengths), ctx)
            return StepOutput(rec + weight * cl1, {"rec": rec, "cl1": cl1})
        rows = -(-len(batch.items) // ctx.chunks)
        weighted = chunked_backward(
            _LastState(self.encoder),
            (batch.items, batch.lengths),
            lambda views: weight * self.view_contrast(views, ctx),
            rows,
        )
        return StepOutput(rec + weighted, {"rec": rec, "cl1": weighted / weight}, descended=True)

    def view_contrast(self, views: Tensor, ctx: StepContext) -> Tensor:
        """Contrast of both views of the histories of all processes.

        Args:
            views: States of this process's first views, then of the second, shape ``(2 B, d)``.
            ctx: Of the step.
        """
        c = self.contrast
        return contrast(
            views,
            positives=("paired", len(views) // 2),
            temperature=c.temperature,
            similarity=c.similarity,
            group=ctx.runtime.group,
        )


class _LastState(nn.Module):
    """The encoder as a module whose call gives the last state of each row."""

    def __init__(self, encoder: SASRecEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`SASRecEncoder.last`."""
        return self.encoder.last(items, lengths)
