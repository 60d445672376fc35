"""RecBole's atomic files: tab-separated, the header names each column and its type (``user_id:token``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nearfar.errors import DataError
from nearfar.optional import require
from nearfar.recsys.interactions import Duplicates, Interactions, Ties


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
    pandas = require("pandas", "reading interaction files")
    try:
        frame = pandas.read_csv(path, sep="\t", dtype=str, quoting=3, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except pandas.errors.EmptyDataError:
        raise DataError(
            f"{path} is empty; a header line such as 'user_id:token<tab>...' is expected"
        ) from None
    except pandas.errors.ParserError as error:
        raise DataError(f"{path} is not a table: {str(error).strip()}") from None
    if not isinstance(frame.index, pandas.RangeIndex):
        # pandas takes surplus leading fields for row labels and shifts every column.
        raise DataError(f"{path} is not a table: its rows have more fields than its header")
    frame.columns = [str(name).partition(":")[0] for name in frame.columns]
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise DataError(
            f"{path}: no column '{absent[0]}' in the header; found {', '.join(map(str, frame.columns))}"
        )
    return frame[list(columns)]


def read_interactions(
    path: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str = "timestamp",
    ties: Ties = "row",
    duplicates: Duplicates = "keep",
) -> Interactions:
    """Read an ``.inter`` file; times are parsed as integers, never as floats.

    Raises:
        DataError: As :func:`read_atomic`, or if a row is unusable; names its line.
    """
    frame = read_atomic(path, (user, item, time))
    for name in (user, item, time):
        missing = np.flatnonzero(frame[name].isna().to_numpy())
        if len(missing):
            raise DataError(
                f"{path}: line {missing[0] + 2} has no {name} ({len(missing)} such lines); the file may be truncated"
            )
    return Interactions.from_columns(
        frame[user].to_numpy(dtype=object),
        frame[item].to_numpy(dtype=object),
        _integers(frame[time].tolist(), path, time),
        ties=ties,
        duplicates=duplicates,
        source=str(path),
    )


def _integers(texts: list[str], path: Path, column: str) -> np.ndarray:
    """Whole numbers from text; ``881250949.0`` and ``8.8e8`` are whole, ``1.5`` and ``nan`` are not."""
    values = np.empty(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        try:
            values[row] = int(text)
        except ValueError:
            try:
                number = float(text)
                values[row] = int(number)
                exact = values[row] == number
            except (ValueError, OverflowError):
                exact = False
            if not exact:
                raise DataError(
                    f"{path}: line {row + 2}: {column} is '{text}', a whole number is expected"
                ) from None
        except OverflowError:
            raise DataError(f"{path}: line {row + 2}: {column} {text} does not fit 64 bits") from None
    return values


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
