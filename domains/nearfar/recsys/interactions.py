"""Who did what when, checked once and stored as one chronological item sequence per user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.data import content_digest
from nearfar.errors import DataError

Ties = Literal["row", "item"]
Duplicates = Literal["keep", "drop", "error"]
PADDING = 0


@dataclass(frozen=True)
class Interactions:
    """Item sequences of all users in one array (CSR), oldest event first.

    Item indices run from 1 to ``num_items``; 0 is padding. Indices follow the sorted raw ids, so they
    do not depend on the order of the rows.

    Attributes:
        items: Item indices of all users one after the other, int64, shape ``(E,)``.
        offsets: User ``u`` owns ``items[offsets[u]:offsets[u + 1]]``, int64, shape ``(U + 1,)``.
        user_ids: Raw id of each user.
        item_ids: Raw id of each item; ``item_ids[i - 1]`` belongs to index ``i``.
        warnings: What the checks found worth saying.
    """

    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def num_users(self) -> int:
        """Users with at least one event."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Distinct items, padding not counted."""
        return len(self.item_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events per user, shape ``(U,)``."""
        return np.diff(self.offsets)

    def sequence(self, user: int) -> NDArray[np.int64]:
        """Item indices of one user, oldest first."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def digest(self) -> str:
        """Fingerprint of the content."""
        return content_digest(self.items, self.offsets, self.user_ids, self.item_ids)

    @classmethod
    def from_columns(
        cls,
        users: Sequence[Any] | NDArray[Any],
        items: Sequence[Any] | NDArray[Any],
        times: Sequence[Any] | NDArray[Any],
        *,
        ties: Ties = "row",
        duplicates: Duplicates = "keep",
        source: str = "data",
    ) -> Interactions:
        """Check three columns of equal length and sort them into sequences.

        Args:
            users: Raw user ids; converted to text.
            items: Raw item ids; converted to text.
            times: Integers (any unit) or ``datetime64``. Sorting is exact: nothing passes through floats,
                in which unix seconds of 32 bits are 128 s apart.
            ties: Order of events of one user at one time: ``"row"`` keeps the order of the rows,
                ``"item"`` sorts by item id, so that shuffled rows give the same sequences.
            duplicates: What to do with a repeated (user, item, time).
            source: Name of the data for messages.

        Raises:
            DataError: If a column is empty, of another length, or holds a missing or impossible value.
        """
        user_text = _ids(users, "user", source)
        item_text = _ids(items, "item", source)
        when = _times(times, source)
        if not len(user_text) == len(item_text) == len(when):
            raise DataError(
                f"{source}: columns differ in length: {len(user_text)} users, {len(item_text)} items, {len(when)} times"
            )
        if len(user_text) == 0:
            raise DataError(f"{source}: no interactions; at least one row of user, item, time is needed")
        user_ids, user_index = np.unique(user_text, return_inverse=True)
        item_ids, item_index = np.unique(item_text, return_inverse=True)
        last_key = item_index if ties == "item" else np.arange(len(when))
        order = np.lexsort((last_key, when, user_index))
        user_index, item_index, when = user_index[order], item_index[order], when[order]
        keep, warnings = _duplicates(user_index, item_index, when, duplicates, source)
        user_index, item_index = user_index[keep], item_index[keep]
        return cls(
            items=item_index.astype(np.int64) + 1,
            offsets=np.searchsorted(user_index, np.arange(len(user_ids) + 1)).astype(np.int64),
            user_ids=tuple(user_ids.tolist()),
            item_ids=tuple(item_ids.tolist()),
            warnings=warnings,
        )

    @classmethod
    def from_sequences(cls, sequences: Mapping[str, Sequence[str]], source: str = "data") -> Interactions:
        """Item sequences that are already in order, by user id.

        Raises:
            DataError: As :meth:`from_columns`.
        """
        rows = [(user, item, place) for user, items in sequences.items() for place, item in enumerate(items)]
        users, items, times = zip(*rows, strict=True) if rows else ((), (), ())
        return cls.from_columns(users, items, np.asarray(times, dtype=np.int64), source=source)


def _ids(values: Sequence[Any] | NDArray[Any], name: str, source: str) -> NDArray[np.str_]:
    array = np.asarray(values, dtype=object)
    missing = np.array([_is_missing(value) for value in array], dtype=bool)
    if missing.any():
        rows = ", ".join(map(str, np.flatnonzero(missing)[:5]))
        raise DataError(
            f"{source}: {missing.sum()} rows have no {name} id (rows {rows}); remove or fill them"
        )
    return np.array([str(value) for value in array], dtype=np.str_)


def _is_missing(value: Any) -> bool:
    if value is None or (isinstance(value, str) and not value):
        return True
    try:
        return bool(value != value)  # NaN and NaT differ from themselves
    except TypeError:  # pandas.NA refuses to say
        return True


def _times(values: Sequence[Any] | NDArray[Any], source: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise DataError(f"{source}: {np.isnat(array).sum()} rows have no time; remove or fill them")
        return array.astype("datetime64[ns]").astype(np.int64)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{source}: the time of row {row} is {array[row]}; remove or fill such rows")
        if array.dtype.itemsize < 8 or not np.array_equal(array, np.floor(array)):
            raise DataError(
                f"{source}: times of type {array.dtype} cannot be ordered exactly; give integers or datetime64"
            )
    elif array.dtype.kind not in "iu" and array.size:
        raise DataError(f"{source}: times must be integers or datetime64, got {array.dtype}")
    times = array.astype(np.int64)
    if times.size and times.min() < 0:
        raise DataError(f"{source}: the time of row {int(times.argmin())} is negative ({times.min()})")
    return times


def _duplicates(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    times: NDArray[np.int64],
    policy: Duplicates,
    source: str,
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which of the sorted rows stay, and what to say about repeated ones."""
    order = np.lexsort((np.arange(len(items)), items, times, users))
    u, i, t = users[order], items[order], times[order]
    repeated = np.zeros(len(items), dtype=bool)
    repeated[order[1:]] = (u[1:] == u[:-1]) & (i[1:] == i[:-1]) & (t[1:] == t[:-1])
    count = int(repeated.sum())
    if count == 0:
        return ~repeated, ()
    if policy == "error":
        raise DataError(f"{source}: {count} rows repeat a (user, item, time); set duplicates=drop or keep")
    if policy == "drop":
        return ~repeated, (f"{count} repeated (user, item, time) rows were dropped",)
    return np.ones(len(items), dtype=bool), (f"{count} rows repeat a (user, item, time) and were kept",)
