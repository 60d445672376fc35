"""Who did what when, checked once and stored as one chronological item sequence per user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from nearfar.data import content_digest
from nearfar.errors import ConfigError, DataError
from nearfar.recsys.frames import frame_column
from nearfar.recsys.times import exact_times
from nearfar.recsys.vocabulary import RawId, index_ids, lookalikes

Ties = Literal["row", "item"]
Duplicates = Literal["keep", "drop_consecutive", "drop", "error"]
PADDING = 0


@dataclass(frozen=True)
class Interactions:
    """Item sequences of all users in one array (CSR), oldest event first.

    Item indices run from 1 to ``num_items``; 0 is padding. Indices follow the sorted raw ids, so they
    do not depend on the order of the rows. Raw ids keep their type; see :mod:`nearfar.recsys.vocabulary`.

    Attributes:
        items: Item indices of all users one after the other, int64, shape ``(E,)``.
        offsets: User ``u`` owns ``items[offsets[u]:offsets[u + 1]]``, int64, shape ``(U + 1,)``.
        user_ids: Raw id of each user.
        item_ids: Raw id of each item; ``item_ids[i - 1]`` belongs to index ``i``.
        warnings: What the checks found worth saying.
        times: When each of ``items`` happened, int64, shape ``(E,)``; ``None`` where nobody knows.

    Raises:
        DataError: If the arrays do not fit each other, or hold an index that stands for no item.
    """

    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    user_ids: tuple[RawId, ...]
    item_ids: tuple[RawId, ...]
    warnings: tuple[str, ...] = field(default=())
    times: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that would be read past their ends."""
        arrays = {"items": self.items, "offsets": self.offsets, "times": self.times}
        for name, array in arrays.items():
            if array is not None and (array.dtype != np.int64 or array.ndim != 1):
                raise DataError(
                    f"{name}: int64 of one axis expected, got {array.dtype} of {array.shape}; convert it"
                )
        offsets, count = self.offsets, len(self.items)
        if len(offsets) != self.num_users + 1 or offsets[0] != 0 or offsets[-1] != count:
            raise DataError(
                f"offsets: {self.num_users + 1} numbers from 0 to {count} expected for {self.num_users} users and "
                f"{count} events, got {len(offsets)}; Interactions.from_columns makes them"
            )
        if (self.lengths < 0).any():
            user = int(np.flatnonzero(self.lengths < 0)[0])
            raise DataError(
                f"offsets: that of user {user + 1} is before that of user {user}; they must not fall"
            )
        if self.times is not None and len(self.times) != count:
            raise DataError(
                f"times: {count} expected, one an event, got {len(self.times)}; give one for each"
            )
        if count and not (self.items.min() > PADDING and self.items.max() <= self.num_items):
            place = int(np.flatnonzero((self.items <= PADDING) | (self.items > self.num_items))[0])
            raise DataError(
                f"items: index {self.items[place]} at {place}, 1 to {self.num_items} expected, {PADDING} is padding; "
                "give raw ids to Interactions.from_columns, which numbers them"
            )

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
        """Fingerprint of the content: sequences, and ids as text."""
        return content_digest(self.items, self.offsets, map(str, self.user_ids), map(str, self.item_ids))

    @classmethod
    def from_columns(
        cls,
        users: Sequence[RawId] | NDArray[Any],
        items: Sequence[RawId] | NDArray[Any],
        times: Sequence[Any] | NDArray[Any] | None,
        *,
        ties: Ties = "row",
        duplicates: Duplicates = "keep",
        source: str = "data",
    ) -> Interactions:
        """Check three columns of equal length and sort them into sequences.

        Args:
            users: Raw user ids, of any hashable type.
            items: Raw item ids, of any hashable type.
            times: See :func:`nearfar.recsys.times.exact_times`; ``None`` says that the rows are in order.
            ties: Order of events of one user at one time: ``"row"`` keeps the order of the rows,
                ``"item"`` sorts by item id, so that shuffled rows give the same sequences.
            duplicates: What to do with repeated events. ``"keep"`` trains on all of them. ``"drop"`` keeps the
                first of each (user, item, time), such as rows that were loaded twice. ``"drop_consecutive"`` keeps
                the first of each run of one item in a user's sequence, whatever the times, such as a page that was
                reloaded; later returns to the item stay. ``"error"`` refuses a repeated (user, item, time).
            source: Name of the data for messages.

        Raises:
            DataError: If a column is empty, of another length, or holds a missing or impossible value; rows are
                counted from 0.
            ConfigError: If ``ties`` or ``duplicates`` is none of those there are.
        """
        for policy, value, known in (("ties", ties, Ties), ("duplicates", duplicates, Duplicates)):
            if value not in get_args(known):
                raise ConfigError(f"{policy}: one of {', '.join(get_args(known))} expected, got {value!r}")
        for name, column in (("users", users), ("items", items), ("times", times)):
            _check_column(name, column, source)
        lengths = len(users), len(items), len(users) if times is None else len(times)
        if len(set(lengths)) > 1:
            raise DataError(
                f"{source}: columns differ in length: {lengths[0]} users, {lengths[1]} items, {lengths[2]} times; "
                "give one of each for every event"
            )
        if lengths[0] == 0:
            raise DataError(f"{source}: no interactions; at least one row of user, item, time is needed")
        user_ids, user_index = index_ids(users, "user", source)
        item_ids, item_index = index_ids(items, "item", source)
        rows = np.arange(len(user_index))
        when = rows if times is None else exact_times(times, source)
        order = np.lexsort((item_index if ties == "item" else rows, when, user_index))
        user_index, item_index, when = user_index[order], item_index[order], when[order]
        keep, warnings = _repeats(user_index, item_index, when, duplicates, source)
        user_index, item_index, when = user_index[keep], item_index[keep], when[keep]
        return cls(
            items=item_index + 1,
            offsets=np.searchsorted(user_index, np.arange(len(user_ids) + 1)).astype(np.int64),
            user_ids=user_ids,
            item_ids=item_ids,
            warnings=(*warnings, *lookalikes(user_ids, "user"), *lookalikes(item_ids, "item")),
            times=None if times is None else when,
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        user: str = "user_id",
        item: str = "item_id",
        time: str | None = "timestamp",
        *,
        ties: Ties = "row",
        duplicates: Duplicates = "keep",
        source: str = "data",
    ) -> Interactions:
        """Three columns of a data frame: pandas, polars, an Arrow table, or a mapping of arrays.

        Args:
            frame: One row an event, in any order; its index plays no part.
            user: Column of user ids.
            item: Column of item ids.
            time: Column of times; ``None`` says that the rows are in order.
            ties: As of :meth:`from_columns`.
            duplicates: As of :meth:`from_columns`.
            source: Name of the data for messages.

        Raises:
            DataError: If a column is missing, and as :meth:`from_columns`.
        """
        columns = [None if name is None else frame_column(frame, name, source) for name in (user, item, time)]
        users, items, times = columns
        assert users is not None
        assert items is not None
        return cls.from_columns(users, items, times, ties=ties, duplicates=duplicates, source=source)

    @classmethod
    def from_sequences(
        cls,
        sequences: Mapping[RawId, Sequence[RawId]] | Iterable[Sequence[RawId]],
        source: str = "data",
        *,
        duplicates: Duplicates = "keep",
    ) -> Interactions:
        """Item sequences that are already in order.

        Args:
            sequences: By user id; or without, and then users are numbered from 0. A user without items is left out
                with a warning.
            source: Name of the data for messages.
            duplicates: As of :meth:`from_columns`; within a sequence no time repeats.

        Raises:
            DataError: If a sequence is not one, and as :meth:`from_columns`.
        """
        if isinstance(sequences, (str, bytes)) or not isinstance(sequences, Iterable):
            raise DataError(
                f"{source}: item sequences expected, by user or one after the other, got {sequences!r}; give lists of "
                "item ids, oldest first"
            )
        named = sequences if isinstance(sequences, Mapping) else dict(enumerate(sequences))
        users: list[RawId] = []
        items: list[RawId] = []
        empty = 0
        for user, sequence in named.items():
            if isinstance(sequence, (str, bytes)) or not isinstance(sequence, Iterable):
                raise DataError(
                    f"{source}: user {user!r} has {sequence!r}, a sequence of item ids is expected, oldest first"
                )
            before = len(items)
            items.extend(sequence)
            users.extend([user] * (len(items) - before))
            empty += len(items) == before
        made = cls.from_columns(users, items, None, duplicates=duplicates, source=source)
        if not empty:
            return made
        note = f"{empty} users have no events and were left out"
        return replace(made, warnings=(*made.warnings, note))


def _check_column(name: str, column: Any, source: str) -> None:
    """Refuse what is no column; ``None`` is the one that may be left out."""
    if column is None and name == "times":
        return
    shape = getattr(column, "shape", None)
    if (
        isinstance(column, (str, bytes))
        or not hasattr(column, "__len__")
        or (shape is not None and len(shape) != 1)
    ):
        found = f"an array of shape {shape}" if shape is not None else f"{type(column).__name__} {column!r}"
        raise DataError(
            f"{source}: {name}: a column of one value an event expected, got {found}; give a list or array"
        )


def _repeats(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    times: NDArray[np.int64],
    policy: Duplicates,
    source: str,
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which of the sorted rows stay, and what to say about repeated ones."""
    if policy == "drop_consecutive":
        repeated = np.zeros(len(items), dtype=bool)
        repeated[1:] = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
        count = int(repeated.sum())
        return ~repeated, ((f"{count} rows repeat the item before them and were dropped",) if count else ())
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
