"""Interactions in CSV and Parquet files: one row an event, one column each for user, item and time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError, first_line
from nearfar.optional import require
from nearfar.recsys.frames import frame_column
from nearfar.recsys.interactions import Duplicates, Interactions, Ties

NO_QUOTES = 3  # csv.QUOTE_NONE
QUOTES = 0  # csv.QUOTE_MINIMAL
MOST_COLUMNS = 10_000
BLOCK = 1 << 20


def read_text_table(path: Path, separator: str, *, quoting: int = QUOTES, header: str = "") -> Any:
    """Read a table with a header as text.

    Args:
        path: UTF-8 file.
        separator: Between cells.
        quoting: As of the module ``csv``.
        header: What a header looks like, for messages.

    Returns:
        pandas DataFrame of text; empty cells are missing values.

    Raises:
        DataError: If the file is missing, empty, not UTF-8 or ragged.
    """
    pandas = require("pandas", "reading interaction files")
    try:
        _check_header(path, separator)
        frame = pandas.read_csv(
            path,
            sep=separator,
            dtype=str,
            quoting=quoting,
            keep_default_na=False,
            na_values=[""],
            compression=None,
        )
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except pandas.errors.EmptyDataError:
        raise DataError(f"{path} is empty; a header line such as '{header}' is expected") from None
    except pandas.errors.ParserError as error:
        raise DataError(f"{path} is not a table: {str(error).strip()}") from None
    except (
        ValueError,
        OverflowError,
        MemoryError,
    ) as error:  # whatever else a parser of damaged text comes to
        raise DataError(f"{path} is not a table: {first_line(error)}; write it anew") from None
    if not isinstance(frame.index, pandas.RangeIndex):
        # pandas takes surplus leading fields for row labels and shifts every column.
        raise DataError(f"{path} is not a table: its rows have more fields than its header")
    return frame


def _check_header(path: Path, separator: str) -> None:
    """Refuse a header as no table of events has it: pandas would take minutes and 200 times the size of the file."""
    with path.open("rb") as file:
        found = sum(block.count(separator.encode()) for block in _first_line(file))
        if found >= MOST_COLUMNS:
            raise DataError(
                f"{path} has {found + 1:,} columns, {MOST_COLUMNS:,} at most are read; leave some out"
            )


def _first_line(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(BLOCK):
        yield line
        if line.endswith(b"\n"):
            return


def read_csv(
    path: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    ties: Ties = "row",
    duplicates: Duplicates = "keep",
) -> Interactions:
    """Read a CSV file (``.tsv``: tab-separated) with a header; ids stay text.

    Args:
        path: The file.
        user: Column of user ids.
        item: Column of item ids.
        time: Column of times, whole numbers or dates and times as of ISO 8601; ``None`` says that the rows are
            in order.
        ties: As of :meth:`Interactions.from_columns`.
        duplicates: As of :meth:`Interactions.from_columns`.

    Raises:
        DataError: If the file is no table, lacks a column, or a row is unusable; rows are counted from 1, the
            header not counted.
    """
    separator = "\t" if path.suffix == ".tsv" else ","
    frame = read_text_table(path, separator, header=separator.join((user, item, time or "")).strip(separator))
    source = str(path)
    columns = {name: frame_column(frame, name, source) for name in (user, item, time) if name is not None}
    for name, column in columns.items():
        missing = np.array([not isinstance(value, str) for value in column], dtype=bool)
        if missing.any():
            raise DataError(
                f"{path}: data row {int(missing.argmax()) + 1} has no {name} ({missing.sum()} such rows); "
                "the file may be truncated"
            )
    return Interactions.from_columns(
        columns[user],
        columns[item],
        None if time is None else _times(columns[time], path, time),
        ties=ties,
        duplicates=duplicates,
        source=source,
    )


def whole_numbers(texts: list[str], place: str, column: str, first: int) -> NDArray[np.int64]:
    """Whole numbers from text; ``881250949.0`` and ``8.8e8`` are whole, ``1.5`` and ``nan`` are not.

    Args:
        texts: One number a row.
        place: File and word for a row, such as ``"a.csv: line"``, for messages.
        column: Name of the column, for messages.
        first: Number of the first row.

    Raises:
        DataError: If a text is no whole number of 64 bits.

    Example:
        >>> whole_numbers(["881250949.0", "7"], "a.inter: line", "timestamp", 2).tolist()
        [881250949, 7]
    """
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
                    f"{place} {row + first}: {column} is '{text}', a whole number is expected"
                ) from None
        except OverflowError:
            raise DataError(f"{place} {row + first}: {column} {text} does not fit 64 bits") from None
    return values


def _times(texts: NDArray[Any], path: Path, column: str) -> NDArray[Any]:
    try:
        float(texts[0]) if len(texts) else None
    except ValueError:
        return _dates(texts, path, column)
    return whole_numbers(texts.tolist(), f"{path}: data row", column, 1)


def _dates(texts: NDArray[Any], path: Path, column: str) -> NDArray[Any]:
    pandas = require("pandas", "reading interaction files")
    zoned = {bool(text[-1:] == "Z" or "+" in text[10:] or "-" in text[10:]) for text in texts}
    if len(zoned) > 1:
        raise DataError(
            f"{path}: some values of {column} have a time zone and some have none; give all of them one"
        )
    dates = pandas.to_datetime(pandas.Series(texts), format="ISO8601", errors="coerce", utc=True)
    wrong = dates.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: data row {row + 1}: {column} is '{texts[row]}'; whole numbers are expected, or dates and times "
            "such as 2024-05-31T12:00:00 in every row"
        )
    values: NDArray[Any] = dates.dt.tz_convert(None).to_numpy()
    return values


def read_parquet(
    path: Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    ties: Ties = "row",
    duplicates: Duplicates = "keep",
) -> Interactions:
    """Read three columns of a Parquet file; ids and times keep their types.

    Args:
        path: The file.
        user: Column of user ids.
        item: Column of item ids.
        time: Column of times; ``None`` says that the rows are in order.
        ties: As of :meth:`Interactions.from_columns`.
        duplicates: As of :meth:`Interactions.from_columns`.

    Raises:
        DataError: If the file is missing, damaged or lacks a column, and as :meth:`Interactions.from_columns`.
        MissingDependencyError: If pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", "reading Parquet files")
    wanted = [name for name in (user, item, time) if name is not None]
    try:
        with parquet.ParquetFile(path) as file:
            known = file.schema_arrow.names
            table = _parquet_columns(path, file, [name for name in wanted if name in known])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except DataError:
        raise
    except Exception as error:  # of Arrow, or of what a damaged file makes of it
        raise DataError(f"{path} is not a Parquet file, or truncated: {first_line(error)}") from None
    absent = [name for name in wanted if name not in known]
    if absent:
        raise DataError(f"{path}: no column '{absent[0]}'; found {', '.join(known)}")
    for name in wanted:
        # Arrow makes floats of integers when some are missing, which large ids do not survive.
        if table[name].null_count:
            raise DataError(f"{path}: {table[name].null_count} rows have no {name}; remove or fill them")
    return Interactions.from_frame(
        table, user, item, time, ties=ties, duplicates=duplicates, source=str(path)
    )


def _parquet_columns(path: Path, file: Any, names: list[str]) -> Any:
    """An Arrow table of some columns, no larger than the file may claim.

    Equal values take no room in the file, so that rows and the lengths of texts are looked at before they are made
    rows and texts.
    """
    arrow, compute = (require(name, "reading Parquet files") for name in ("pyarrow", "pyarrow.compute"))
    parquet, fix = require("pyarrow.parquet", "reading Parquet files"), "write the columns as .csv"
    check_claim(path, 8 * file.metadata.num_rows * len(names), f"{file.metadata.num_rows:,} rows", fix)
    large = {arrow.string(): arrow.large_string(), arrow.binary(): arrow.large_binary()}
    large |= {kind: kind for kind in large.values()}
    types = {name: file.schema_arrow.field(name).type for name in names}
    texts = [name for name in names if types[name] in large]
    table = parquet.read_table(path, columns=names, read_dictionary=texts)
    for name in texts:
        lengths = 0
        for chunk in table[name].chunks:
            found = compute.take(compute.binary_length(chunk.dictionary), chunk.indices)
            lengths += compute.sum(found).as_py() or 0
        check_claim(path, lengths, f"the text of {name}", fix)
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(large[types[name]]))
    table.validate(full=True)  # text that is not UTF-8
    return table
