"""Methods that make no gradient step: counts, initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nearfar.config import OptimConfig
from nearfar.training.method import Method, StepContext, StepOutput, Update


class NoBatches:
    """The data of a method that is not trained by gradient."""

    steps_per_epoch = 1

    def batch(self, step: int) -> None:
        """Never asked for."""


class WithoutTraining(Method):
    """Base of methods that are ready when they are built."""

    @staticmethod
    def batches(*_: Any) -> Any:
        """None: nothing is trained."""
        return NoBatches()

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:  # noqa: ARG002
        """None: nothing is trained."""
        return {}

    def updates(self, step: int) -> Sequence[Update]:  # noqa: ARG002
        """None: nothing is trained."""
        return ()

    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        """Never called."""
        raise NotImplementedError(f"{type(self).__name__} has no training step")
