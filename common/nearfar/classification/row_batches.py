"""Training rows of every step: passes in an order of their own, cut evenly; a function of seed and step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nearfar.adapters import Inputs
from nearfar.runtime import generator


@dataclass(frozen=True)
class RowBatch:
    """Some training rows.

    Attributes:
        x: What the encoder takes, not augmented.
        rows: Their places among the training rows, int64, shape ``(B,)``.
        given: Labels as given, int64, shape ``(B,)``.
    """

    x: Any
    rows: Tensor
    given: Tensor


def epoch_steps(num_rows: int, batch_size: int) -> int:
    """Steps of a pass over all rows, the last of which may have fewer than the others.

    Args:
        num_rows: All rows.
        batch_size: Rows of a step at most.
    """
    return max(1, -(-num_rows // batch_size))


class RowBatches:
    """Passes over all rows in batches of ``batch_size``, cut evenly.

    Args:
        inputs: Training rows.
        given: Their labels, int64, shape ``(n,)``.
        batch_size: Rows of a step at most.
        seed: Of the run.

    Attributes:
        steps_per_epoch: Of a pass.
    """

    def __init__(self, inputs: Inputs, given: Tensor, batch_size: int, seed: int) -> None:
        self.inputs, self.given, self.seed = inputs, given.cpu(), seed
        self.steps_per_epoch = epoch_steps(len(inputs), batch_size)
        # Of the pass at hand and the next; a long one takes longer to draw than a step.
        self.order = lru_cache(maxsize=4)(self._drawn)

    def batch(self, step: int) -> RowBatch:
        """Rows of a step."""
        rows = self.rows(step)
        return RowBatch(self.inputs.rows(rows), rows, self.given[rows])

    def rows(self, step: int) -> Tensor:
        """Their numbers, int64, shape ``(B,)``."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.order("order", epoch).tensor_split(self.steps_per_epoch)[place]

    def _drawn(self, name: str, number: int) -> Tensor:
        return torch.randperm(len(self.inputs), generator=generator(self.seed, name, number))
