"""Encoder and linear head, cross-entropy or balanced softmax, weak augmentation: no contrast anywhere."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.adapters import Inputs, in_precision_of, width_of
from nearfar.classification.row_batches import RowBatch, RowBatches
from nearfar.labels import balanced_softmax
from nearfar.longtail.supervised.config import SupervisedConfig
from nearfar.objectives.views import at_least_float32
from nearfar.runtime import Runtime, initial_weights, stream_seed
from nearfar.training import Method, StepContext, StepOutput
from nearfar.training.shares import shares_of


class Supervised(Method):
    """A classifier from end to end.

    Args:
        config: Loss and batch.
        encoder: ``batch -> (B, m)``.
        inputs: Training rows.
        given: Labels, int64 from 0, shape ``(n,)``.
        num_classes: K; a class may be without a row.

    Attributes:
        encoder: What is trained.
        head: Trained with it.
    """

    memory_settings: ClassVar[tuple[str, ...]] = ("batch_size", "encoder")

    counts: Tensor

    def __init__(
        self, config: SupervisedConfig, encoder: Any, inputs: Inputs, given: Tensor, num_classes: int
    ) -> None:
        super().__init__()
        self.config, self.encoder, self.inputs = config, encoder, inputs
        with initial_weights(stream_seed(config.seed, "head")):
            self.head = nn.Linear(width_of(encoder, inputs), num_classes)
        self.register_buffer("counts", torch.bincount(given, minlength=num_classes), persistent=False)

    @staticmethod
    def batches(config: SupervisedConfig, inputs: Inputs, given: Tensor, runtime: Runtime) -> RowBatches:  # noqa: ARG004
        """Rows of every step."""
        return RowBatches(inputs, given, config.batch_size, config.seed)

    def step(self, batch: RowBatch, ctx: StepContext) -> StepOutput:
        """Cross-entropy of a batch.

        Args:
            batch: Some rows with labels.
            ctx: Of the step.
        """
        x = self.inputs.weak(in_precision_of(self, batch.x), ctx.rng("augment"))
        size, given = len(batch.rows), batch.given
        ranks = shares_of(self.encoder, ctx.runtime.group, size)
        if ranks.group is not None:
            x, given = x[ranks.own_rows], given[ranks.own_rows]
        logits = at_least_float32(self.head(self.encoder(x)))
        if self.config.loss == "balanced_softmax":
            total = balanced_softmax(logits, given, self.counts, reduction="sum")
        else:
            total = F.cross_entropy(logits, given, reduction="sum")
        return StepOutput(ranks.loss(total / size))
