"""RecBole's atomic files: tab-separated, the header names each column and its type (``user_id:token``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.errors import DataError
from nearfar.recsys.interactions import Duplicates, Interactions, Ties
from nearfar.recsys.tables import NO_QUOTES, read_text_table, whole_numbers


def read_atomic(path: Path, columns: tuple[str, ...]) -> Any:
    """Read some columns of an atomic file as text.

    Args:
        path: ``*.inter``, ``*.item`` or ``*.user`` file.
        columns: Field names without their type.

    Returns:
        pandas DataFrame of text with these columns; empty cells are missing values.

    Raises:
        DataError: If the file is missing, empty, not UTF-8, ragged, or lacks a column.
    """
    frame = read_text_table(path, "\t", quoting=NO_QUOTES, header="user_id:token<tab>...")
    frame.columns = [str(name).partition(":")[0] for name in frame.columns]
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise DataError(
            f"{path}: no column '{absent[0]}' in the header; found {', '.join(map(str, frame.columns))}"
        )
    twice = [name for name in columns if (frame.columns == name).sum() > 1]
    if twice:
        raise DataError(f"{path}: two columns are named '{twice[0]}'; rename one")
    return frame[list(columns)]


def read_interactions(
    path: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    ties: Ties = "row",
    duplicates: Duplicates = "keep",
) -> Interactions:
    """Read an ``.inter`` file; ids stay text, times are parsed as integers, never as floats.

    Args:
        path: The file.
        user: Column of user ids, without its type.
        item: Column of item ids.
        time: Column of times; ``None`` says that the rows are in order.
        ties: As of :meth:`Interactions.from_columns`.
        duplicates: As of :meth:`Interactions.from_columns`.

    Raises:
        DataError: As :func:`read_atomic`, or if a row is unusable; names its line.
    """
    names = (user, item) if time is None else (user, item, time)
    frame = read_atomic(path, names)
    for name in names:
        missing = np.flatnonzero(frame[name].isna().to_numpy())
        if len(missing):
            raise DataError(
                f"{path}: line {missing[0] + 2} has no {name} ({len(missing)} such lines); the file may be truncated"
            )
    return Interactions.from_columns(
        frame[user].to_numpy(dtype=object),
        frame[item].to_numpy(dtype=object),
        None if time is None else whole_numbers(frame[time].tolist(), f"{path}: line", time, 2),
        ties=ties,
        duplicates=duplicates,
        source=str(path),
    )


def read_titles(path: Path) -> dict[str, str]:
    """Raw item id to ``Title (year)`` from an ``.item`` file with ``movie_title`` and ``release_year``.

    Raises:
        DataError: As :func:`read_atomic`.
    """
    frame = read_atomic(path, ("item_id", "movie_title", "release_year")).fillna("")
    return {
        item: f"{title} ({year})" if year else title
        for item, title, year in frame.itertuples(index=False, name=None)
    }
