"""Times as integers that sort exactly as they do: nothing passes through floats on the way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.recsys.vocabulary import is_missing

EXPECTED = "integers or datetime64"


def exact_times(values: Sequence[Any] | NDArray[Any], source: str) -> NDArray[np.int64]:
    """Times that can be compared with each other, in whatever unit they came.

    Integers stay, ``datetime64`` gives its own ticks, Python's and pandas' datetimes become nanoseconds (those
    with a time zone in UTC; without one they are taken as they are). Whole numbers in float64 are accepted.
    float32 is not: unix seconds of today are 128 s apart in it.

    Args:
        values: One time a row.
        source: Name of the data for messages.

    Returns:
        int64, shape ``(len(values),)``.

    Raises:
        DataError: If a time is missing, negative, or of a type that has no exact order.

    Example:
        >>> exact_times([2.0, 1.0], "data").tolist()
        [2, 1]
    """
    array = np.asarray(values)
    if array.dtype.kind == "O":
        array = _from_objects(array, source)
    if array.dtype.kind == "M":
        if np.isnat(array).any():
            raise DataError(f"{source}: {np.isnat(array).sum()} rows have no time; remove or fill them")
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{source}: the time of row {row} is {array[row]}; remove or fill such rows")
        if array.dtype.itemsize < 8 or not np.array_equal(array, np.floor(array)):
            raise DataError(
                f"{source}: times of type {array.dtype} cannot be ordered exactly; give {EXPECTED}"
            )
        if (np.abs(array) >= 2.0**63).any():
            row = int(np.abs(array).argmax())
            raise DataError(
                f"{source}: the time of row {row}, {array[row]}, does not fit 64 bits; give seconds or milliseconds"
            )
    elif array.dtype.kind not in "iu" and array.size:
        raise DataError(f"{source}: times must be {EXPECTED}, got {array.dtype}; parse them first")
    if array.dtype.kind == "u" and array.size and array.max() >= 2**63:
        row = int(array.argmax())
        raise DataError(
            f"{source}: the time of row {row}, {array[row]}, does not fit 64 bits; give seconds or milliseconds"
        )
    times = array.astype(np.int64)
    if times.size and times.min() < 0:
        raise DataError(
            f"{source}: the time of row {int(times.argmin())} is negative ({times.min()}); correct or remove such rows"
        )
    return times


def _from_objects(array: NDArray[Any], source: str) -> NDArray[Any]:
    """The same as a typed array, if all values are of one kind."""
    missing = [row for row, value in enumerate(array) if is_missing(value)]
    if missing:
        listed = ", ".join(map(str, missing[:5]))
        raise DataError(f"{source}: {len(missing)} rows have no time (rows {listed}); remove or fill them")
    values = list(array)
    if all(isinstance(value, Integral) and not isinstance(value, bool) for value in values):
        outside = next((row for row, value in enumerate(values) if not -(2**63) <= value < 2**63), None)
        if outside is not None:
            raise DataError(
                f"{source}: the time of row {outside}, {values[outside]}, does not fit 64 bits; give seconds or "
                "milliseconds"
            )
        return np.array([int(value) for value in values], dtype=np.int64)
    if all(isinstance(value, (date, np.datetime64)) for value in values):
        zoned = {getattr(value, "tzinfo", None) is not None for value in values}
        if len(zoned) > 1:
            raise DataError(f"{source}: some times have a time zone and some have none; give all of them one")
        return np.array([_instant(value) for value in values])
    strange = next((value for value in values if not isinstance(value, Integral)), values[0])
    raise DataError(
        f"{source}: times must be {EXPECTED}, got {strange!r} ({type(strange).__name__}); parse them first"
    )


def _instant(value: Any) -> np.datetime64:
    if isinstance(value, datetime) and value.tzinfo is not None:
        # pandas' own conversion keeps nanoseconds, which Python's does not know.
        value = (
            value.tz_convert(None)
            if hasattr(value, "tz_convert")
            else value.astimezone(UTC).replace(tzinfo=None)
        )
    if hasattr(value, "to_datetime64"):
        value = value.to_datetime64()
    return np.datetime64(value)
