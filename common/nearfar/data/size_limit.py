"""How much memory a file may ask for: a multiple of its own size, so that a small file cannot fill the machine."""

from __future__ import annotations

from pathlib import Path

from nearfar.errors import DataError

# Real data inflate too: one-hot features of papers 60 to 150 times, padded series 15 times.
FACTOR = 200
ALWAYS = 128 << 20


def check_claim(path: Path, claimed: int, what: str, fix: str, *, size: int | None = None) -> None:
    """Refuse what a file claims to hold before memory is asked for.

    Args:
        path: The file.
        claimed: Bytes that ``what`` would take in memory. 128 MiB are always allowed, and so is 200 times the size of
            the file.
        what: Would take it, for the message.
        fix: What to do if the file is honest.
        size: Bytes on disk, where that is not the size of ``path``.

    Raises:
        DataError: If it claims more.

    Example:
        >>> check_claim(Path("a.npz"), 10 << 30, "x", "write it anew", size=1000)
        Traceback (most recent call last):
        nearfar.errors.DataError: a.npz: x would take 10,737,418,240 bytes, from a file of 1,000; write it anew
    """
    size = path.stat().st_size if size is None else size
    if claimed > max(ALWAYS, FACTOR * size):
        raise DataError(f"{path}: {what} would take {claimed:,} bytes, from a file of {size:,}; {fix}")
