"""Rows of every step of RCAL: passes without labels first, then passes with them."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.adapters import Inputs
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.classification.row_batches import RowBatches, epoch_steps


def unlabelled_steps(num_rows: int, config: RCALConfig) -> int:
    """Steps of stage one.

    Args:
        num_rows: All rows.
        config: Its epochs, of which a part counts, and the size of a batch.
    """
    return round(config.pretrain.epochs * epoch_steps(num_rows, config.batch_size))


class StageBatches(RowBatches):
    """Batches of both stages.

    An epoch is a pass in batches of ``batch_size``, cut evenly. A stage without labels that has larger batches makes as
    many steps an epoch, and so several passes.

    Args:
        inputs: Training rows.
        given: Their labels, int64, shape ``(n,)``.
        config: Sizes, length of the first stage, and seed.
    """

    def __init__(self, inputs: Inputs, given: Tensor, config: RCALConfig) -> None:
        super().__init__(inputs, given, config.batch_size, config.seed)
        self.unlabelled_size = min(config.pretrain.batch_size or config.batch_size, len(inputs))
        self.unlabelled_steps = unlabelled_steps(len(inputs), config)

    def rows(self, step: int) -> Tensor:
        """Their numbers, int64, shape ``(B,)``."""
        return self._unlabelled(step) if step < self.unlabelled_steps else super().rows(step)

    def _unlabelled(self, step: int) -> Tensor:
        """The next rows of passes that follow each other without a gap."""
        size, num_rows = self.unlabelled_size, len(self.inputs)
        number, start = divmod(step * size, num_rows)
        rows = self.order("unlabelled_order", number)[start : start + size]
        missing = size - len(rows)
        if not missing:
            return rows
        following = self.order("unlabelled_order", number + 1)
        # A row of the end of one pass that comes again at once would be its own negative.
        fresh = following[~torch.isin(following, rows)]
        return torch.cat([rows, fresh[:missing]])
