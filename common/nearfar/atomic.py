"""Files that are either the old one or the new one, never something in between."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(
    path: Path, write: Callable[[BinaryIO], object], check: Callable[[Path], None] | None = None
) -> None:
    """Write beside ``path``, flush to disk, check, and only then take its name.

    Args:
        path: File to replace or create; its folder exists.
        write: Writes the content.
        check: Raises if the written file is not what it should be.

    Raises:
        OSError: If it cannot be written. This, or what ``write`` and ``check`` raise, leaves the old
            file as it was and no temporary one behind.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # Makes the rename survive a power loss.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_atomically(path: Path, text: str) -> None:
    """Replace a text file in one step, durably; a crash leaves the old content.

    Raises:
        OSError: If the folder cannot be written.
    """
    replace_file(path, lambda file: file.write(text.encode()))
