"""What happens to a trained recommender when new events arrive: longer histories, new users, new items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from nearfar.recsys.interactions import Interactions
from nearfar.recsys.vocabulary import Vocabulary

ITEM_WEIGHTS = "item.weight"  # of every encoder, the averaged one included


def append_events(data: Interactions, new: Interactions) -> Interactions:
    """Histories with new events behind the old ones; new users and items come after those there are.

    Args:
        data: Indices of its users and items stay.
        new: Events, in order within each user.

    Returns:
        Both, without times: those of ``data`` and ``new`` need not have one unit.
    """
    users, user_ids = _mapped(data.user_ids, new.user_ids)
    items, item_ids = _mapped(data.item_ids, new.item_ids)
    owner = np.concatenate(
        [
            np.repeat(np.arange(data.num_users), data.lengths),
            np.repeat(users, new.lengths),
        ]
    )
    events = np.concatenate([data.items, items[new.items - 1] + 1])
    order = np.argsort(owner, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(user_ids)))])
    return Interactions(events[order], offsets.astype(np.int64), user_ids, item_ids, new.warnings)


def _mapped(old: tuple[object, ...], new: tuple[object, ...]) -> tuple[np.ndarray, tuple[object, ...]]:
    """Place of each new id among the old and the added ones, and all of them."""
    known, added, places = Vocabulary(old), list(old), np.empty(len(new), dtype=np.int64)
    for row, value in enumerate(new):
        place = known.find(value)
        if place is None:
            place = len(added)
            added.append(value)
        places[row] = place
    return places, tuple(added)


def vectors_of_new_items(weights: Tensor, data: Interactions) -> Tensor:
    """Item weights with one row more for every item they do not have yet.

    A new item begins as the mean of the known items it occurs with: of all events of known items in the histories
    that hold it, once for every time they do. Without any, it begins as the mean of all known items.

    Args:
        weights: Row ``i`` is the vector of item ``i``, row 0 belongs to padding, shape ``(V + 1, d)``.
        data: Histories with more than ``V`` items.

    Returns:
        Shape ``(data.num_items + 1, d)``; the first rows are ``weights``.
    """
    known = len(weights) - 1
    items = torch.from_numpy(data.items).to(weights.device)
    owner = torch.arange(data.num_users).repeat_interleave(torch.from_numpy(data.lengths)).to(weights.device)
    old = items <= known
    totals = weights.new_zeros(data.num_users, weights.shape[1], dtype=torch.float64)
    totals.index_add_(0, owner[old], weights[items[old]].double())
    counts = torch.zeros(data.num_users, dtype=torch.float64, device=weights.device)
    counts.index_add_(0, owner[old], torch.ones_like(owner[old], dtype=torch.float64))
    place, holder = items[~old] - known - 1, owner[~old]
    sums = totals.new_zeros(data.num_items - known, weights.shape[1]).index_add_(0, place, totals[holder])
    weight = counts.new_zeros(len(sums)).index_add_(0, place, counts[holder])[:, None]
    mean = weights[1:].double().mean(0)
    added = torch.where(weight > 0, sums / weight.clamp(min=1), mean)
    return torch.cat([weights, added.to(weights.dtype)])


def grown_state(state: Mapping[str, Tensor], data: Interactions) -> dict[str, Tensor]:
    """The state of a method for more items than it has, or as many.

    Args:
        state: By name, of the same shape as in the method.
        data: Histories with all items.
    """
    return {
        name: vectors_of_new_items(weights, data)
        if name.endswith(f".{ITEM_WEIGHTS}") and len(weights) <= data.num_items
        else weights
        for name, weights in state.items()
    }
