"""Columns of data frames of any make: pandas, polars, Arrow tables, or a mapping of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.config import suggest
from nearfar.errors import DataError


def is_frame(data: object) -> bool:
    """Whether something has named columns: ``columns`` or ``column_names``, as pandas, polars and Arrow do."""
    return hasattr(data, "columns") or hasattr(data, "column_names")


def frame_column(frame: Any, name: str, source: str) -> NDArray[Any]:
    """One column as a NumPy array in row order; an index of the frame plays no part.

    Args:
        frame: A frame, or a mapping of arrays.
        name: Of the column.
        source: Name of the data for messages.

    Returns:
        The values, shape ``(N,)``; times with a time zone in UTC.

    Raises:
        DataError: If there is no such column, or more than one.
    """
    names = _names(frame)
    if name not in names:
        known = ", ".join(map(str, names)) or "none"
        hint = suggest(name, map(str, names), "name the columns with user=, item= and time=")
        raise DataError(f"{source}: no column '{name}' (found {known}); {hint}")
    column = frame[name]
    if getattr(getattr(column, "dtype", None), "tz", None) is not None:  # pandas gives objects for these
        column = column.dt.tz_convert(None)
    values = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if values.ndim != 1:
        raise DataError(f"{source}: there are several columns '{name}'; rename all but one")
    array: NDArray[Any] = values
    return array


def _names(frame: Any) -> list[Any]:
    # Arrow has both; its `columns` are the data.
    for attribute in ("column_names", "columns", "keys"):
        found = getattr(frame, attribute, None)
        if found is not None:
            return list(found() if callable(found) else found)
    return []
