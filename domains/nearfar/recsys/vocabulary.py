"""Raw ids of any hashable type: checked, put in order, found again, and written as JSON without losing the type.

Two ids of one vocabulary never have the same text (1 and "1" do): such a column is the work of a faulty join, text
files and serving could not tell the two apart, and so it is refused. In return an id may always be given as its text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError

RawId: TypeAlias = Any  # hashable, with a text of its own


def index_ids(
    values: Sequence[RawId] | NDArray[Any], name: str, source: str
) -> tuple[tuple[RawId, ...], NDArray[np.int64]]:
    """Distinct ids in order, and the place of each row's id among them.

    Text is ordered by code point, numbers by value, anything else by type and text, so that the order does not
    depend on that of the rows. Ids that are equal (1 and 1.0) are one id. NumPy scalars become Python's.

    Args:
        values: One id a row.
        name: What they are, for messages.
        source: Name of the data for messages.

    Returns:
        Ids, and places, int64, shape ``(len(values),)``.

    Raises:
        DataError: If an id is missing, not hashable or no valid text, or two different ones have the same text.

    Example:
        >>> ids, places = index_ids([10, 9, 10], "item", "data")
        >>> ids, places.tolist()
        ((9, 10), [1, 0, 1])
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        ids, places = np.unique(values, return_inverse=True)
        return tuple(ids.tolist()), places.astype(np.int64, copy=False)
    rows = _as_list(values)
    try:
        distinct = dict.fromkeys(rows)
    except TypeError:
        row = next(row for row, value in enumerate(rows) if not _is_hashable(value))
        raise DataError(
            f"{source}: the {name} id of row {row} is {rows[row]!r}; a hashable value is expected, such as a "
            "number or text"
        ) from None
    if any(map(is_missing, distinct)):
        places_missing = [row for row, value in enumerate(rows) if is_missing(value)]
        listed = ", ".join(map(str, places_missing[:5]))
        raise DataError(
            f"{source}: {len(places_missing)} rows have no {name} id (rows {listed}); remove or fill them"
        )
    if not any(set(map(type, rows)) <= kind for kind in ({str}, {int}, {UUID})):
        distinct = dict.fromkeys(_one_of_equals(rows))
    ordered = sort_ids(distinct, name, source)
    broken = next((value for value in ordered if isinstance(value, str) and not _is_unicode(value)), None)
    if broken is not None:
        raise DataError(
            f"{source}: the {name} id {broken!r} of row {rows.index(broken)} is no valid Unicode; read the file in the "
            "encoding it was written in"
        )
    place = {value: index for index, value in enumerate(ordered)}
    return ordered, np.fromiter(map(place.__getitem__, rows), np.int64, len(rows))


def _one_of_equals(rows: Iterable[RawId]) -> Iterable[RawId]:
    """Of ids that are equal, such as 1 and 1.0, the same one whatever the order of the rows."""
    chosen: dict[RawId, RawId] = {}
    for value in rows:
        known = chosen.setdefault(value, value)
        if known is not value and _kind_and_text(value) < _kind_and_text(known):
            chosen[value] = value
    return chosen.values()


def _kind_and_text(value: RawId) -> tuple[str, str]:
    return type(value).__qualname__, str(value)


def sort_ids(ids: Iterable[RawId], name: str, source: str) -> tuple[RawId, ...]:
    """Distinct ids in the order of :func:`index_ids`; arguments and errors as there."""
    plain = [_python(value) for value in ids]
    kinds = {type(value) for value in plain}
    if kinds <= {str} or kinds <= {int, float}:
        if len(kinds) > 1:
            _check_texts(plain, name, source)
        return tuple(sorted(plain))
    _check_texts(plain, name, source)
    return tuple(sorted(plain, key=_kind_and_text))


def lookalikes(ids: Iterable[RawId], name: str) -> tuple[str, ...]:
    """Say which ids people could not tell apart: they differ in white space, invisible signs or Unicode's form.

    They stay different ids, since nobody but their owner knows whether they mean one.

    Args:
        ids: Distinct.
        name: What they are, for messages.

    Example:
        >>> lookalikes(["a", "a ", "b"], "item")
        ("item ids 'a' and 'a ' look the same: 1 such pair is kept apart; clean the column if they mean one",)
    """
    seen: dict[str, str] = {}
    pairs = []
    for value in ids:
        if isinstance(value, str):
            other = seen.setdefault(_look(value), value)
            if other is not value:
                pairs.append((other, value))
    if not pairs:
        return ()
    first, second = pairs[0]
    count = f"{len(pairs):,} such pair{' is' if len(pairs) == 1 else 's are'}"
    return (
        f"{name} ids {first!a} and {second!a} look the same: {count} kept apart; clean the column if they mean "
        "one",
    )


def _look(text: str) -> str:
    if not text.isascii():
        visible = (sign for sign in text if unicodedata.category(sign) != "Cf")
        text = unicodedata.normalize("NFC", "".join(visible))
    return " ".join(text.split())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def is_missing(value: RawId) -> bool:
    """Whether a value stands for no value: ``None``, empty text, NaN, NaT, ``pandas.NA``."""
    if value is None or (isinstance(value, str) and not value):
        return True
    try:
        return bool(value != value)  # NaN and NaT differ from themselves
    except TypeError:  # pandas.NA refuses to say
        return True
    except ValueError:  # an array
        return False


def _as_list(values: Sequence[RawId] | NDArray[Any]) -> list[RawId]:
    if isinstance(values, np.ndarray) and values.dtype.kind in "Mm":
        return list(values)  # tolist() would give their integers
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return list(values)


def _python(value: RawId) -> RawId:
    return value.item() if isinstance(value, (np.number, np.bool_, np.str_)) else value


def _is_hashable(value: object) -> bool:
    try:
        dict.fromkeys((value,))  # also finds a list inside a tuple
    except TypeError:
        return False
    return isinstance(value, Hashable)


def _check_texts(ids: list[RawId], name: str, source: str) -> None:
    seen: dict[str, RawId] = {}
    for value in ids:
        other = seen.setdefault(str(value), value)
        if other is not value:
            raise DataError(
                f"{source}: the {name} ids {other!r} ({type(other).__name__}) and {value!r} "
                f"({type(value).__name__}) have the same text; convert the column to one type"
            )


class Vocabulary:
    """Distinct ids, found by equality or else by their text.

    Args:
        ids: In order of their places, no two with the same text.
    """

    def __init__(self, ids: Sequence[RawId]) -> None:
        self.ids = tuple(ids)
        self._place = {value: place for place, value in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[RawId]:
        return iter(self.ids)

    def find(self, value: RawId) -> int | None:
        """Place of an id, ``None`` where it is not known.

        Example:
            >>> known = Vocabulary((7, 8))
            >>> known.find(8), known.find("8"), known.find("9"), known.find(None)
            (1, 1, None, None)
        """
        try:
            place = self._place.get(value)
        except TypeError:  # not hashable: nobody's id
            return None
        if place is None and not is_missing(value):
            place = self._by_text.get(value if isinstance(value, str) else str(value))
        return place

    def column(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The ids at some places, as a NumPy column: int64 where all ids are such integers, objects otherwise."""
        found: NDArray[Any] = self._array[places]
        return found

    @cached_property
    def _by_text(self) -> Mapping[str, int]:
        return {str(value): place for place, value in enumerate(self.ids)}

    @cached_property
    def _array(self) -> NDArray[Any]:
        whole = bool(self.ids) and all(type(value) is int and -(2**63) <= value < 2**63 for value in self.ids)
        # fromiter, because array() would take tuples for rows of a matrix.
        return np.fromiter(self.ids, np.int64 if whole else np.dtype(object), len(self.ids))


def ids_to_json(ids: Iterable[RawId], name: str) -> list[Any]:
    """Ids as values that JSON keeps apart: numbers and text as they are, tuples as lists, a UUID as an object.

    Args:
        ids: To be written.
        name: What they are, for messages.

    Raises:
        DataError: If an id is of another type, which could not come back as what it was.

    Example:
        >>> ids_to_json([7, "7a", (1, "b"), UUID(int=0)], "item")
        [7, '7a', [1, 'b'], {'uuid': '00000000-0000-0000-0000-000000000000'}]
    """
    return [_encode(value, name) for value in ids]


def ids_from_json(values: Iterable[Any]) -> tuple[RawId, ...]:
    """What :func:`ids_to_json` was given.

    Raises:
        ValueError: If something is not of its making.
    """
    return tuple(_decode(value) for value in values)


def _encode(value: RawId, name: str) -> Any:
    kind = type(value)
    if kind in (str, int, float, bool):
        return value
    if kind is UUID:
        return {"uuid": str(value)}
    if kind is tuple:
        return [_encode(part, name) for part in value]
    raise DataError(
        f"{name} ids of type {kind.__name__} ({value!r}) cannot be saved so that they come back as what they were; "
        "text, numbers, UUIDs and tuples of these can: convert the column, for instance to text"
    )


def _decode(value: Any) -> RawId:
    if isinstance(value, list):
        return tuple(_decode(part) for part in value)
    if isinstance(value, dict):
        if list(value) != ["uuid"]:
            raise ValueError(f"{value!r} is not an id")
        return UUID(value["uuid"])
    return value
