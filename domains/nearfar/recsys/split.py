"""Where sequences are cut: leave-one-out, by time, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.recsys.interactions import Interactions
from nearfar.scalars import is_number

Split = Literal["val", "test"]
TOO_SHORT = "no user has 2 training events; there is no next item to learn from: give longer histories"


@dataclass(frozen=True)
class LeaveOneOut:
    """Where every user's sequence is cut: trained on, then one validation target, then one test target.

    Users without room for two targets are not evaluated.

    Attributes:
        data: The interactions.
        train_ends: User ``u`` trains on ``items[offsets[u]:train_ends[u]]``, int64, shape ``(U,)``.
        users: Users that are evaluated, int64.
    """

    data: Interactions
    train_ends: NDArray[np.int64]
    users: NDArray[np.int64]

    def train(self, user: int) -> NDArray[np.int64]:
        """Training items of a user, oldest first."""
        return self.data.items[self.data.offsets[user] : self.train_ends[user]]

    def item_counts(self) -> NDArray[np.int64]:
        """Training events of every item, shape ``(num_items,)``; item ``i`` is at ``i - 1``."""
        data = self.data
        trained = np.arange(len(data.items)) < np.repeat(self.train_ends, data.lengths)
        return np.bincount(data.items[trained] - 1, minlength=data.num_items)

    def history(self, user: int, split: Split) -> NDArray[np.int64]:
        """What is known when the target is predicted; the validation item is known at test time."""
        end = self.train_ends[user] + (split == "test")
        return self.data.items[self.data.offsets[user] : end]

    def targets(self, split: Split) -> NDArray[np.int64]:
        """Target item of each user in ``users``, in that order."""
        return self.data.items[self.train_ends[self.users] + (split == "test")]


def leave_one_out(data: Interactions) -> LeaveOneOut:
    """The last item of a user is the test target, the one before it the validation target (Qin et al. 2023, 5.1).

    Of users with fewer than three events all is trained on.

    Raises:
        DataError: If no user has three events, or nothing is left to train on.
    """
    evaluated = data.lengths >= 3
    if not evaluated.any():
        raise DataError(
            f"no user has 3 events or more (the longest history has {data.lengths.max(initial=0)}); "
            "leave-one-out needs one to train, one to validate and one to test"
        )
    train_ends = data.offsets[1:] - 2 * evaluated
    if (train_ends - data.offsets[:-1]).max() < 2:
        raise DataError(TOO_SHORT)
    return LeaveOneOut(data, train_ends, np.flatnonzero(evaluated))


def temporal_split(data: Interactions, quantile: float = 0.8) -> LeaveOneOut:
    """Train on what happened before one moment, the same for all; a user's next two events are the targets.

    Nothing is learnt from what others did later, which leave-one-out allows. What a user does after the second
    target is used for nothing.

    Args:
        data: With times.
        quantile: Share of the events that lies before the moment, in (0, 1).

    Raises:
        DataError: If there are no times, no user has one event before the moment and two after it, or nothing
            is left to train on.
        ConfigError: If the quantile is not in (0, 1).
    """
    if not is_number(quantile) or not 0 < quantile < 1:
        raise ConfigError(f"quantile: a number above 0 and below 1 expected, got {quantile!r}")
    if data.times is None:
        raise DataError("a split by time needs times: name their column, or split leave-one-out (val='loo')")
    moment = np.quantile(data.times, quantile, method="higher")
    before = np.concatenate([[0], np.cumsum(data.times < moment)])
    known = before[data.offsets[1:]] - before[data.offsets[:-1]]
    evaluated = (known >= 1) & (data.lengths - known >= 2)
    if not evaluated.any():
        raise DataError(
            f"no user has an event before and two events after the moment that has {quantile:.0%} of all events "
            "before it; split leave-one-out (val='loo')"
        )
    if known.max() < 2:
        raise DataError(TOO_SHORT)
    return LeaveOneOut(data, data.offsets[:-1] + known, np.flatnonzero(evaluated))


def nothing_held_out(data: Interactions) -> LeaveOneOut:
    """Train on everything, evaluate nobody.

    Raises:
        DataError: If no user has two events.
    """
    if data.lengths.max(initial=0) < 2:
        raise DataError(TOO_SHORT)
    return LeaveOneOut(data, data.offsets[1:].copy(), np.empty(0, dtype=np.int64))
