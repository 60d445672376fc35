"""The ranks behind a run's test metrics, kept so that two runs can be compared user by user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.data import content_digest, read_arrays, write_arrays
from nearfar.errors import DataError
from nearfar.recsys.ranking import FILTERED, user_values
from nearfar.recsys.split import LeaveOneOut

FILE = "ranks.npz"
# Names in the file of the protocols of `target_ranks`.
_PROTOCOLS = {"unfiltered": "", "filtered": FILTERED}


@dataclass(frozen=True)
class TestRanks:
    """Test ranks of one trained recommender.

    Attributes:
        users: Digest of the users and their targets, in order.
        ranks: As :func:`nearfar.recsys.ranking.target_ranks` gives them.
    """

    __test__ = False  # pytest takes it for one of its own otherwise

    users: str
    ranks: Mapping[str, NDArray[np.integer]]

    @classmethod
    def of(cls, split: LeaveOneOut, ranks: Mapping[str, NDArray[np.integer]]) -> TestRanks:
        """The ranks of a split's test targets.

        Args:
            split: Where they were measured.
            ranks: By protocol.
        """
        data = split.data
        users = (repr(data.user_ids[user]) for user in split.users)
        targets = (repr(data.item_ids[item - 1]) for item in split.targets("test"))
        return cls(content_digest(users, targets), ranks)

    def values(self, metric: str) -> NDArray[np.float64]:
        """One value per user, whose mean is the metric.

        Args:
            metric: Such as ``ndcg_at_10`` or ``ndcg_at_10_filtered``.

        Raises:
            ConfigError: If the metric is unknown.
        """
        protocol = FILTERED if metric.endswith(FILTERED) else ""
        return user_values(self.ranks[protocol], metric.removesuffix(protocol))

    def write(self, path: Path) -> None:
        """Write them, int32 and compressed.

        Args:
            path: The file; an older one is replaced in one step.

        Raises:
            OSError: If it cannot be written.
        """
        arrays: dict[str, Any] = {name: self.ranks[key].astype(np.int32) for name, key in _PROTOCOLS.items()}
        arrays["users"] = np.array(self.users)
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> TestRanks:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            DataError: If it is no such file.
        """
        found = read_arrays(path, (*_PROTOCOLS, "users"), "the ranks")
        ranks = {protocol: found[name] for name, protocol in _PROTOCOLS.items()}
        shapes = {rank.shape for rank in ranks.values()}
        whole = all(
            rank.dtype.kind == "i" and rank.ndim == 1 and (rank >= 0).all() for rank in ranks.values()
        )
        if not whole or len(shapes) != 1 or found["users"].dtype.kind != "U" or found["users"].ndim:
            raise DataError(
                f"{path} does not hold the ranks of a run: whole numbers from 0 expected, one a user, got shapes "
                f"{', '.join(map(str, sorted(shapes)))}; write it anew"
            )
        return cls(str(found["users"]), ranks)
