"""A chosen objective as a part of a method: its loss, its own parameters, and what it remembers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from nearfar.objectives.ranks import Ranks
from nearfar.runtime import initial_weights, stream_seed
from nearfar.selectable.registry import Size, known_objectives
from nearfar.selectable.settings import ObjectiveSettings, SlowCopySettings
from nearfar.selectable.view_batch import ViewBatch
from nearfar.training import EMA


class SelectedObjective(nn.Module):
    """The loss of two views that a config names.

    Its parameters, if it has any, are to be trained with the encoder's; they are not kept after training.

    Args:
        settings: Which, and its parameters.
        sizes: ``dim`` of the views, and ``num_classes`` and ``num_rows`` where there are such.
        seed: Of the run; initial weights are drawn from a stream of it.
        followed: What is trained, from rows to views; copied, where the objective compares with a slow copy.

    Attributes:
        loss: The module.
        slow: The copy, which makes the targets; ``None`` without need.

    Example:
        >>> import torch
        >>> from nearfar.selectable.settings import DCLSettings
        >>> objective = SelectedObjective(DCLSettings(), {"dim": 2}, 0, nn.Identity())
        >>> z = torch.ones(4, 2)
        >>> round(objective(ViewBatch(z, z, torch.Generator())).item(), 4)  # log 6
        1.7918
    """

    def __init__(
        self, settings: ObjectiveSettings, sizes: Mapping[Size, int], seed: int, followed: nn.Module
    ) -> None:
        super().__init__()
        self.settings, self.entry = settings, known_objectives()[settings.name]
        module, _, name = self.entry.loss.partition(":")
        build: Any = getattr(importlib.import_module(module), name)
        wanted = {size: sizes[size] for size in self.entry.sizes}
        with initial_weights(stream_seed(seed, "objective")):
            self.loss: nn.Module = build(**wanted, **settings.arguments)
        self.slow = EMA(followed, settings.momentum) if isinstance(settings, SlowCopySettings) else None

    def train(self, mode: bool = True) -> Self:
        """As of any module; targets are always made in evaluation mode."""
        super().train(mode)
        if self.slow is not None:
            self.slow.eval()
        return self

    def needs(self, what: str) -> bool:
        """Whether a batch must have it: ``"labels"``, ``"side"`` and so on."""
        return what in self.entry.needs

    def forward(self, batch: ViewBatch, ranks: Ranks | None = None) -> Tensor:
        """The loss of the rows of all processes, a scalar.

        Its gradients, averaged over processes, are those of the whole.

        Args:
            batch: Rows of this process.
            ranks: Who has which; ``None`` for this process alone.
        """
        whole = batch if ranks is None else batch.gathered(ranks)
        loss: Tensor = self.loss(*(getattr(whole, name) for name in self.entry.takes))
        return loss

    def after_step(self, followed: nn.Module) -> None:
        """The slow copy follows; queues and memories take in what the step has seen.

        Args:
            followed: As at construction.
        """
        if self.slow is not None:
            self.slow.update(followed)
        remember = getattr(self.loss, "after_step", None)
        if remember is not None:
            remember()
