"""How well popular and rare items are foreseen: test metrics by the training events of the target.

Head and tail are the most popular and the rarest items that make a fifth of the training events each, medium is the
rest. The edges depend on the data alone, and every group has targets enough to tell two models apart, where fixed
counts would leave one empty on a small or a large data set.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearfar.labels.by_frequency import by_frequency
from nearfar.recsys.ranking import user_values
from nearfar.recsys.split import LeaveOneOut

# With seen items among the candidates, as models are selected.
MEASURED = ("hr_at_10", "ndcg_at_10")
GROUPS = {"many": "head", "medium": "medium", "few": "tail"}
SHARE = 0.2  # of the training events, in the head and in the tail


def popularity_bounds(counts: NDArray[np.integer], share: float = SHARE) -> tuple[int, int]:
    """Counts between which an item is neither of the head nor of the tail, as :func:`by_frequency` takes them.

    Items of one count are never parted: those on an edge belong where most of their events lie. There is always a
    count in between, and no head or tail where items are equally popular.

    Args:
        counts: Events of every item, at least one of them positive, shape ``(num_items,)``.
        share: Of all events, below one half.

    Returns:
        Rarer than the first is the tail, more popular than the second the head.

    Example:
        >>> popularity_bounds(np.array([0, 1, 1, 5, 5, 5, 6]))  # 2, 15 and 6 of 23 events
        (5, 5)
    """
    count, items = np.unique(counts, return_counts=True)
    events = count * items
    middle = (np.cumsum(events) - events / 2) / events.sum()
    medium = count[(middle >= share) & (middle <= 1 - share)]
    return int(medium[0]), int(medium[-1])


def metrics_by_popularity(ranks: NDArray[np.integer], split: LeaveOneOut) -> dict[str, float]:
    """HR and NDCG at 10 of users whose test target is of the head, of medium popularity and of the tail.

    Args:
        ranks: Rank of each user's test target, 0 is the best, shape ``(len(split.users),)``.
        split: What was trained on, and the targets.

    Returns:
        ``hr_at_10_head``, ``hr_at_10_medium``, ``hr_at_10_tail`` and so on; a group without a user is left out.
    """
    counts = split.item_counts()
    often, bounds = counts[split.targets("test") - 1], popularity_bounds(counts)
    return {
        f"{metric}_{GROUPS[group]}": value
        for metric in MEASURED
        for group, value in by_frequency(user_values(ranks, metric), often, bounds=bounds).items()
    }
