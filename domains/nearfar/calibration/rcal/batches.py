"""Rows of every step: passes without labels first, then passes with them; a function of seed and step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nearfar.adapters import Inputs
from nearfar.calibration.rcal.config import RCALConfig
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


def unlabelled_steps(num_rows: int, config: RCALConfig) -> int:
    """Steps of stage one.

    Args:
        num_rows: All rows.
        config: Its epochs, of which a part counts, and the size of a batch.
    """
    return round(config.pretrain.epochs * epoch_steps(num_rows, config.batch_size))


class RowBatches:
    """Batches of both stages.

    An epoch is a pass in batches of ``batch_size``, cut evenly. A stage without labels that has larger batches makes as
    many steps an epoch, and so several passes.

    Args:
        inputs: Training rows.
        given: Their labels, int64, shape ``(n,)``.
        config: Sizes, length of the first stage, and seed.

    Attributes:
        steps_per_epoch: As above.
    """

    def __init__(self, inputs: Inputs, given: Tensor, config: RCALConfig) -> None:
        self.inputs, self.given, self.seed = inputs, given.cpu(), config.seed
        self.unlabelled_size = min(config.pretrain.batch_size or config.batch_size, len(inputs))
        self.steps_per_epoch = epoch_steps(len(inputs), config.batch_size)
        self.unlabelled_steps = unlabelled_steps(len(inputs), config)
        # Of the pass at hand and the next; a long one takes longer to draw than a step.
        self._order = lru_cache(maxsize=4)(self._drawn)

    def batch(self, step: int) -> RowBatch:
        """Rows of a step."""
        if step < self.unlabelled_steps:
            rows = self._unlabelled(step)
        else:
            epoch, place = divmod(step, self.steps_per_epoch)
            rows = self._order("order", epoch).tensor_split(self.steps_per_epoch)[place]
        return RowBatch(self.inputs.rows(rows), rows, self.given[rows])

    def _unlabelled(self, step: int) -> Tensor:
        """The next rows of passes that follow each other without a gap."""
        size, num_rows = self.unlabelled_size, len(self.inputs)
        number, start = divmod(step * size, num_rows)
        rows = self._order("unlabelled_order", number)[start : start + size]
        missing = size - len(rows)
        if not missing:
            return rows
        following = self._order("unlabelled_order", number + 1)
        # A row of the end of one pass that comes again at once would be its own negative.
        fresh = following[~torch.isin(following, rows)]
        return torch.cat([rows, fresh[:missing]])

    def _drawn(self, name: str, number: int) -> Tensor:
        return torch.randperm(len(self.inputs), generator=generator(self.seed, name, number))
