"""Recommendations as arrays and as a frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearfar.optional import require


class Recommendations(NamedTuple):
    """Recommendations as arrays, one row for each of what was asked, best first; with diversity in order of choice.

    Attributes:
        users: Who or which history, shape ``(N,)``.
        items: Raw item ids, shape ``(N, k)``; where fewer were left, the rest means nothing.
        scores: float32, shape ``(N, k)``; -inf where fewer were left.
        counts: Items of each row, int64, shape ``(N,)``.
    """

    users: NDArray[Any]
    items: NDArray[Any]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]

    def frame(self) -> Any:
        """The same as a pandas DataFrame ``user, item, score, rank``, ``rank`` from 1."""
        pandas = require("pandas", "recommendations as a frame (as_frame=False gives arrays)")
        rank = np.broadcast_to(np.arange(1, self.items.shape[1] + 1), self.items.shape)
        there = rank <= self.counts[:, None]
        return pandas.DataFrame(
            {
                "user": np.repeat(self.users, self.counts),
                "item": self.items[there],
                "score": self.scores[there],
                "rank": rank[there],
            }
        )
