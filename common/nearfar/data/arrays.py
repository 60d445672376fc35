"""Named arrays in one compressed file, written in one step and read without unpickling."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.atomic import replace_file
from nearfar.errors import DataError


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write them.

    Args:
        path: The file; an older one is replaced in one step.
        arrays: By name.

    Raises:
        OSError: If it cannot be written.
    """
    replace_file(path, lambda file: np.savez_compressed(file, **arrays))


def read_arrays(path: Path, names: Sequence[str], what: str) -> dict[str, NDArray[Any]]:
    """Read what :func:`write_arrays` wrote.

    Args:
        path: The file.
        names: Arrays that it must have.
        what: They are, for the message.

    Raises:
        DataError: If it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} does not hold {what} of a run: {error}") from None
