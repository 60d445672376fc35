"""Arrays out of ``.npz`` files by anybody: nothing is unpickled, and no header is believed before it is checked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError, first_line

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# Rows of no columns take no bytes, and so many of anything that counts them.
_MOST_EMPTY = 1 << 20


def read_npz(
    path: Path, names: Collection[str] | None = None, refusal: str = "cannot be read as .npz"
) -> dict[str, NDArray[Any]]:
    """Arrays of a file by name.

    Memory is asked for only where the members of the archive are as long as their headers say, and all of them
    together no longer than :func:`nearfar.data.size_limit.check_claim` allows: ``numpy.load`` takes both on trust.

    Args:
        path: Written by ``numpy.savez`` or ``numpy.savez_compressed``.
        names: Arrays to read where they are there; all by default.
        refusal: What is the matter with a file that is none, for the message.

    Raises:
        DataError: If it is no such file, is damaged, holds objects, or claims more than its size allows.
    """
    if not path.is_file():
        raise DataError(f"{path} {refusal}: there is no such file; give the path of one")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, names)
            claimed = sum(member.file_size for member in members.values())
            check_claim(path, claimed, "its arrays", "write it uncompressed, with numpy.savez")
            return {name: _array(archive, member) for name, member in members.items()}
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes zipfile, zlib and NumPy raise almost anything
        raise DataError(
            f"{path} {refusal}: {first_line(error)}; write it with numpy.savez, without objects"
        ) from None


def _members(archive: zipfile.ZipFile, names: Collection[str] | None) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"it holds {name} twice")
        found[name] = member
    return {name: member for name, member in found.items() if names is None or name in names}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} is of version {version}")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds objects")
        wanted, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if min(shape, default=0) < 0 or wanted != there:
            raise ValueError(f"{member.filename} says {shape} of {dtype} and holds {there:,} bytes")
        if not there and math.prod(max(size, 1) for size in shape) > _MOST_EMPTY:
            raise ValueError(f"{member.filename} says {shape} of {dtype} and holds nothing")
    with archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
