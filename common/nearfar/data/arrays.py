"""Named arrays in one compressed file, written in one step and read without unpickling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.atomic import replace_file
from nearfar.data.npz import read_npz
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
    refusal = f"does not hold {what} of a run"
    found = read_npz(path, names, refusal)
    absent = [name for name in names if name not in found]
    if absent:
        raise DataError(f"{path} {refusal}: it lacks {', '.join(absent)}; write it anew")
    return found
