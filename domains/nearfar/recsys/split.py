"""Leave-one-out: the last item of every user is the test target, the one before it the validation target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.recsys.interactions import Interactions

Split = Literal["val", "test"]


@dataclass(frozen=True)
class LeaveOneOut:
    """Where every user's sequence is cut.

    Users with fewer than three events have no room for two targets: all they have is trained on, and
    they are not evaluated.

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

    def history(self, user: int, split: Split) -> NDArray[np.int64]:
        """What is known when the target is predicted; the validation item is known at test time."""
        end = self.train_ends[user] + (split == "test")
        return self.data.items[self.data.offsets[user] : end]

    def targets(self, split: Split) -> NDArray[np.int64]:
        """Target item of each user in ``users``, in that order."""
        return self.data.items[self.train_ends[self.users] + (split == "test")]


def leave_one_out(data: Interactions) -> LeaveOneOut:
    """Cut the sequences (MCLRec, Qin et al. 2023, section 5.1).

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
        raise DataError("no user has 2 training events; there is no next item to learn from")
    return LeaveOneOut(data, train_ends, np.flatnonzero(evaluated))
