"""Text files with one user a line, ``user item item ...``, oldest first: the format of the Amazon and Yelp sets."""

from __future__ import annotations

from pathlib import Path

from nearfar.errors import DataError
from nearfar.recsys.interactions import Duplicates, Interactions

FORMAT = "one line a user: its id and its items, oldest first, between spaces"


def read_sequences(path: Path, *, duplicates: Duplicates = "keep") -> Interactions:
    """Read a sequence file; ids stay text, the place in the line is the time.

    Args:
        path: UTF-8 file.
        duplicates: As of :meth:`Interactions.from_sequences`.

    Raises:
        DataError: If the file is missing, empty, not UTF-8, or a line has no items or the user of another one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise DataError(f"{path} is empty; {FORMAT}, is expected")
    if "\0" in text:
        damaged = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {damaged} holds a NUL character; the file is damaged")
    sequences: dict[str, list[str]] = {}
    first_line: dict[str, int] = {}
    for number, line in enumerate(text.rstrip().split("\n"), 1):
        user, *items = line.split() or [""]
        if not items:
            what = f"has user '{user}' and no item" if user else "is empty"
            raise DataError(f"{path}: line {number} {what}; {FORMAT}, is expected; the file may be truncated")
        if user in sequences:
            raise DataError(
                f"{path}: line {number} is about user '{user}', as line {first_line[user]} is; join the two"
            )
        sequences[user], first_line[user] = items, number
    return Interactions.from_sequences(sequences, str(path), duplicates=duplicates)
