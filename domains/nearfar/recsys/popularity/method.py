"""Every user gets the items with the most training events."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.recsys.popularity.config import PopularityConfig
from nearfar.recsys.split import LeaveOneOut
from nearfar.training import WithoutTraining


class ItemCounts(nn.Module):
    """Scores every item by a count, whatever the history.

    Args:
        num_items: Items, numbered from 1.
    """

    counts: Tensor

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.arguments = {"num_items": num_items}
        self.register_buffer("counts", torch.zeros(num_items))

    def score(self, histories: list[NDArray[np.int64]]) -> Tensor:
        """Counts of all items, ``(N, num_items)``."""
        return self.counts.expand(len(histories), -1)


class Popularity(WithoutTraining):
    """Training counts, the same for everybody; ties go against the target in evaluation."""

    def __init__(self, config: PopularityConfig, split: LeaveOneOut) -> None:  # noqa: ARG002
        super().__init__()
        self.scorer = ItemCounts(split.data.num_items)
        self.scorer.counts.copy_(torch.from_numpy(split.item_counts()))
