"""Series in .ts files, the form of the UEA and UCR archives (Bagnall et al., 2018).

A header of ``@name value`` lines, then a line a series: channels divided by colons, values by commas, the class last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError

MISSING = {"?", "", "nan"}


@dataclass(frozen=True, eq=False)
class SeriesFile:
    """What one file holds.

    Attributes:
        x: Series, NaN where a value is missing or a series has ended, shape ``(N, T, C)``.
        labels: Classes as written, one a series.
        classes: Classes that the header names.
    """

    x: NDArray[np.float64]
    labels: tuple[str, ...]
    classes: tuple[str, ...]


def read_ts(path: Path) -> SeriesFile:
    """Read a file.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read, has no classes, values with times, a series with another number of
            channels, or a value that is no number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    header, start = _header(path, lines)
    if header.get("timestamps", ["false"])[0].lower() == "true":
        raise DataError(f"{path}: @timeStamps true is not read; write equally spaced values without times")
    told = header.get("classlabel", ["false"])
    if told[0].lower() != "true":
        raise DataError(f"{path}: @classLabel true and the classes expected, the file has none to learn")
    cases = list(_cases(path, lines, start))
    if not cases:
        raise DataError(f"{path} has no series after @data")
    dimensions = header.get("dimensions")
    told_width = (
        dimensions and len(dimensions[0]) < 10 and dimensions[0].isascii() and dimensions[0].isdecimal()
    )
    expected = int(dimensions[0]) if dimensions and told_width else len(cases[0][1])
    for number, channels, _ in cases:
        if len(channels) != expected:
            raise DataError(
                f"{path}, line {number}: {len(channels)} channels, {expected} expected; the file is damaged, get it "
                "again"
            )
    longest = max(len(channel) for _, channels, _ in cases for channel in channels)
    claimed = 8 * len(cases) * longest * expected
    check_claim(path, claimed, f"{len(cases)} series, padded to {longest:,} steps,", "split the longest")
    x = np.full((len(cases), longest, expected), np.nan)
    for place, (_, channels, _) in enumerate(cases):
        for column, channel in enumerate(channels):
            x[place, : len(channel), column] = channel
    return SeriesFile(x, tuple(label for _, _, label in cases), tuple(told[1:]))


def _header(path: Path, lines: Sequence[str]) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    for number, line in enumerate(lines):
        text = line.strip()
        if text.lower() == "@data":
            return header, number + 1
        if text.startswith("@"):
            name, *values = text[1:].split() or [""]
            header[name.lower()] = values or ["false"]
        elif text and not text.startswith("#"):
            raise DataError(f"{path}, line {number + 1}: '{text[:40]}' before @data; is this a .ts file?")
    raise DataError(f"{path} has no line @data; is this a .ts file, and complete?")


def _cases(
    path: Path, lines: Sequence[str], start: int
) -> Iterator[tuple[int, list[NDArray[np.float64]], str]]:
    for number, line in enumerate(lines[start:], start + 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        *channels, label = text.split(":")
        if not channels:
            raise DataError(
                f"{path}, line {number}: no colon before the class; the file is truncated, get it again"
            )
        yield number, [_values(path, number, channel) for channel in channels], label.strip()


def _values(path: Path, number: int, channel: str) -> NDArray[np.float64]:
    cells = channel.split(",")
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        pass
    values = []
    for place, cell in enumerate(cells):
        if cell.strip().lower() in MISSING:
            values.append(np.nan)
            continue
        try:
            values.append(float(cell))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: value {place} of a channel is '{cell.strip()[:20]}', which is no number; "
                "write ? for a missing one"
            ) from None
    return np.array(values)
