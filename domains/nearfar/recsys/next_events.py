"""How well the next events of known users were foreseen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.messages import warn
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.ranking import FILTERED, target_ranks
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.trained import Trained

PROTOCOLS = ("", FILTERED)


def next_event_ranks(trained: Trained, events: Interactions) -> dict[str, NDArray[np.int64]]:
    """Rank of each known user's first new event after the stored history.

    Args:
        trained: Model, histories and vocabulary.
        events: What happened afterwards. Users without a history are left out, an item that the model does not know
            is ranked behind all others; both with a warning.

    Returns:
        Ranks by protocol, as of :func:`nearfar.recsys.ranking.target_ranks`, shape ``(N,)`` each.

    Raises:
        DataError: If no user is known.
    """
    data = trained.data
    users = [trained.users.find(user) for user in events.user_ids]
    firsts = [trained.items.find(events.item_ids[events.items[begin] - 1]) for begin in events.offsets[:-1]]
    pairs = [(user, item) for user, item in zip(users, firsts, strict=True) if user is not None]
    if not pairs:
        raise DataError("no user of these events is known; nobody can be evaluated")
    if len(pairs) < len(users):
        warn(f"{len(users) - len(pairs)} users have no stored history and were left out")
    known = [(user, item) for user, item in pairs if item is not None]
    missed = len(pairs) - len(known)
    if missed:
        warn(f"{missed} targets are items that the model does not know; they count as misses")
    ranks = _ranks(trained, known) if known else {}
    behind = np.full(missed, data.num_items)
    return {protocol: np.concatenate([ranks.get(protocol, behind[:0]), behind]) for protocol in PROTOCOLS}


def _ranks(trained: Trained, known: list[tuple[int, int]]) -> dict[str, NDArray[np.int64]]:
    data = trained.data
    sequences = [np.append(data.sequence(user), item + 1) for user, item in known]
    offsets = np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64)
    asked = Interactions(np.concatenate(sequences), offsets, tuple(range(len(known))), data.item_ids)
    split = LeaveOneOut(asked, offsets[1:] - 1, np.arange(len(known)))
    return target_ranks(trained.scorer.score, split, "val")
