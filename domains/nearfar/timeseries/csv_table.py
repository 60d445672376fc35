"""A table of numbers in a .csv file, with or without a column of timestamps in front; every bad cell is named."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError

ZONE = re.compile(r"\d[T\s]\d\d[\d:.]*\s*([Zz]|[+-]\d\d?(:?\d\d)?)\s*$")
# Tried when a time is not in ISO form. A day that could be a month is not guessed at.
TIME_FORMATS = ("%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%Y%m%d %H:%M:%S", "%d.%m.%Y %H:%M")


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds.

    Attributes:
        columns: Names of the numbers' columns.
        values: Shape ``(N, C)``.
        timestamps: Seconds, shape ``(N,)``, in UTC where the file names time zones; ``None`` if the first column holds
            numbers.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    timestamps: NDArray[np.datetime64] | None


def read_table(path: Path) -> Table:
    """Read it. A first row without a number is taken for names of columns.

    Args:
        path: The file, UTF-8, cells divided by commas.

    Raises:
        DataError: If it cannot be read, a row has another number of cells, a cell is no number, or it is not finite.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a .csv file: {error}") from None
    names = rows.pop(0) if rows and not any(map(_is_number, rows[0][1:] or rows[0])) else None
    if not rows:
        raise DataError(f"{path} has no rows; a row a time step is expected")
    width, lines = len(names or rows[0]), 1 if names is None else 2
    for place, row in enumerate(rows):
        if len(row) != width:
            last = place == len(rows) - 1
            raise DataError(
                f"{path}, line {place + lines}: {len(row)} cells, the others have {width}; "
                + ("the file is truncated, get it again" if last else "complete the row")
            )
    timed = not _is_number(rows[0][0])
    if width == timed:
        raise DataError(f"{path} has no column of numbers; one a channel is expected")
    columns = tuple(names or map(str, range(width)))[timed:]
    if len(set(columns)) < len(columns):
        twice = Counter(columns).most_common(1)[0][0]
        raise DataError(f"{path}: two columns are named '{twice}'; rename one")
    timestamps = _times(path, [row[0] for row in rows], lines) if timed else None
    return Table(columns, _numbers(path, [row[timed:] for row in rows], columns, lines), timestamps)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(
    path: Path, rows: Sequence[Sequence[str]], columns: Sequence[str], lines: int
) -> NDArray[np.float64]:
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError:
        values = np.array([[float(cell) if _is_number(cell) else math.nan for cell in row] for row in rows])
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        cell = rows[row][column].strip()
        raise DataError(
            f"{path}, line {row + lines}, column '{columns[column]}': {repr(cell) if cell else 'an empty cell'} is no "
            f"finite number ({len(wrong):,} such cells); fill gaps, for example with the value before"
        )
    return values


def _times(path: Path, cells: Sequence[str], lines: int) -> NDArray[np.datetime64]:
    zoned = [ZONE.search(cell) is not None for cell in cells]
    if any(zoned):
        if not all(zoned):
            without = zoned.index(False)
            raise DataError(
                f"{path}, line {without + lines}, first column: '{cells[without]}' has no time zone, others have "
                "one; give all of them one"
            )
        return _in_utc(path, cells, lines)
    try:
        return _iso(cells)
    except (ValueError, UserWarning):
        pass
    for form in TIME_FORMATS:
        try:
            return np.array([datetime.strptime(cell, form) for cell in cells], dtype="datetime64[s]")
        except ValueError:
            continue
    wrong = next((place for place, cell in enumerate(cells) if not _is_time(cell)), 0)
    raise DataError(
        f"{path}, line {wrong + lines}, first column: '{cells[wrong]}' is no time; write it as 2016-07-01 00:00:00"
    )


def _in_utc(path: Path, cells: Sequence[str], lines: int) -> NDArray[np.datetime64]:
    found = []
    for place, cell in enumerate(cells):
        try:
            found.append(datetime.fromisoformat(cell).astimezone(UTC).replace(tzinfo=None))
        except ValueError:
            raise DataError(
                f"{path}, line {place + lines}, first column: '{cell}' is no time; write it as "
                "2016-07-01 00:00:00+00:00"
            ) from None
    return np.array(found, dtype="datetime64[s]")


def _is_time(cell: str) -> bool:
    try:
        return not np.isnat(_iso([cell])).any()
    except (ValueError, UserWarning):
        return False


def _iso(cells: Sequence[str]) -> NDArray[np.datetime64]:
    """NumPy's reading, but for what it merely warns of: it would take ``2016-07-01 00+`` and more for a time zone."""
    with warnings.catch_warnings(action="error", category=UserWarning):
        return np.array(cells, dtype="datetime64[s]")
