"""What there is after training, and how what people ask is said in its indices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.messages import warn
from nearfar.recsys.interactions import PADDING, Interactions
from nearfar.recsys.popularity.method import ItemCounts
from nearfar.recsys.retrieval import Scorer
from nearfar.recsys.vocabulary import RawId, Vocabulary

Unknown = Literal["error", "skip", "pad"]
NAMED = 10  # ids spelled out in a message


@dataclass(frozen=True)
class Trained:
    """What there is after training.

    Attributes:
        scorer: Trained model, in evaluation mode.
        data: Known users with their histories, and the item vocabulary.
        titles: Raw item id to a title for people.
        users: Raw ids of ``data`` by place.
        items: Raw ids of ``data`` by place; item index ``i`` is at ``i - 1``.
        popular: Scores every item by how often it is in ``data``.
    """

    scorer: Scorer
    data: Interactions
    titles: Mapping[RawId, str] = field(default_factory=dict)
    users: Vocabulary = field(init=False)
    items: Vocabulary = field(init=False)
    popular: ItemCounts = field(init=False)

    def __post_init__(self) -> None:
        counts = np.bincount(self.data.items, minlength=self.data.num_items + 1)[1:]
        popular = ItemCounts(self.data.num_items)
        popular.counts.copy_(torch.from_numpy(counts))
        object.__setattr__(self, "users", Vocabulary(self.data.user_ids))
        object.__setattr__(self, "items", Vocabulary(self.data.item_ids))
        object.__setattr__(self, "popular", popular)

    def known(self, ids: Sequence[RawId], name: str) -> NDArray[np.int64]:
        """Indices of items.

        Args:
            ids: Raw item ids.
            name: What they are, for messages.

        Raises:
            DataError: If one is unknown.
        """
        places = [self.items.find(item) for item in ids]
        unknown = [item for item, place in zip(ids, places, strict=True) if place is None]
        if unknown:
            raise DataError(
                f"{name}: {len(unknown)} unknown items ({named(unknown)}); leave out what is not in the training data"
            )
        return np.array(places, dtype=np.int64) + 1

    def index(self, histories: Sequence[Iterable[RawId]], unknown: Unknown) -> list[NDArray[np.int64]]:
        """Item indices of raw histories; 0 for an unknown item whose place is kept.

        Args:
            histories: Raw item ids, oldest first.
            unknown: As of :meth:`Inference.recommend_from_histories`.

        Raises:
            DataError: If a history is no sequence of ids, or holds unknown ones and that is an error.
        """
        if unknown not in ("error", "skip", "pad"):
            raise DataError(f"unknown: error, skip or pad expected, got {unknown!r}")
        find = self.items.find
        indexed, strange = [], 0
        for row, history in enumerate(histories):
            if isinstance(history, (str, bytes)) or not isinstance(history, Iterable):
                raise DataError(
                    f"history {row} is {history!r}; a sequence of item ids is expected, oldest first"
                )
            items = list(history)
            places = [find(item) for item in items]
            if None in places:
                missing = [item for item, place in zip(items, places, strict=True) if place is None]
                if unknown == "error":
                    raise DataError(
                        f"history {row}: {len(missing)} unknown items ({named(missing)}); "
                        "pass unknown='skip' to leave them out"
                    )
                strange += len(missing)
            kept = [PADDING if p is None else p + 1 for p in places if p is not None or unknown == "pad"]
            indexed.append(np.array(kept, dtype=np.int64))
        if strange:
            what = "left out" if unknown == "skip" else "taken as unknown"
            warn(f"{strange} items of histories are not in the vocabulary and were {what}")
        return indexed

    def is_empty(self, history: NDArray[np.int64]) -> bool:
        """Whether the model would see nothing of it."""
        return not history[-getattr(self.scorer, "max_length", len(history) + 1) :].any()

    def candidates(
        self, allowed: Iterable[RawId] | None, blocked: Iterable[RawId] | None
    ) -> NDArray[np.int64] | None:
        """Indices of the items to choose from, ascending; ``None`` is all.

        Args:
            allowed: Raw item ids, ``None`` is all; unknown ones are left out with a warning.
            blocked: Raw item ids; unknown ones have no effect.

        Raises:
            DataError: If nothing is left to choose from.
        """
        if allowed is None and blocked is None:
            return None
        chosen = np.ones(self.data.num_items, dtype=bool)
        find = self.items.find
        if allowed is not None:
            wanted = listed(allowed, "allowed_items")
            places = [place for place in map(find, wanted) if place is not None]
            if len(places) < len(wanted):
                warn(
                    f"allowed_items: {len(wanted) - len(places)} ids are not in the vocabulary and were left out"
                )
            chosen[:] = False
            chosen[places] = True
        if blocked is not None:
            chosen[[place for place in map(find, listed(blocked, "blocked_items")) if place is not None]] = (
                False
            )
        if not chosen.any():
            raise DataError("allowed_items, blocked_items: no known item is left to recommend")
        return np.flatnonzero(chosen) + 1


def listed(values: Iterable[Any], name: str) -> list[Any]:
    """Values as a list.

    Args:
        values: Several of something.
        name: What they are, for messages.

    Raises:
        DataError: If they are one text, or one anything.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f"{name}: a list is expected, got {values!r}")
    return list(values)


def named(ids: Sequence[RawId]) -> str:
    """The first few ids, for messages."""
    shown = ", ".join(map(str, ids[:NAMED]))
    return f"{shown}, ..." if len(ids) > NAMED else shown
