"""Arrays out of pickles by anybody: CIFAR and Planetoid come as such, and a pickle may run any program.

Here it runs nothing. What a pickle names is looked up in a short table, everything else is refused by name, and
even what is in it is never called: plain notes of what was asked for take their place and become arrays when all is
read and the sizes hold.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.data.pickle_machine import PickleMachine, instructions
from nearfar.data.size_limit import check_claim
from nearfar.errors import DataError, first_line


class _Named(Enum):
    """What a pickle may name."""

    ARRAY = "array"
    DTYPE = "dtype"
    RECONSTRUCT = "reconstruct"
    CSR = "csr"
    DICT = "dict"
    LIST = "list"
    ENCODE = "encode"
    BYTES = "bytes"


# Old and new names of the same things.
_BUILTINS = ("__builtin__", "builtins")
_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED = (
    {(module, "ndarray"): _Named.ARRAY for module in _NUMPY}
    | {(module, "dtype"): _Named.DTYPE for module in _NUMPY}
    | {(module, "_reconstruct"): _Named.RECONSTRUCT for module in _NUMPY}
    | {(module, "csr_matrix"): _Named.CSR for module in ("scipy.sparse.csr", "scipy.sparse._csr")}
    | {(module, "list"): _Named.LIST for module in _BUILTINS}
    | {(module, "bytes"): _Named.BYTES for module in _BUILTINS}
    | {("collections", "defaultdict"): _Named.DICT, ("_codecs", "encode"): _Named.ENCODE}
)
_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")
# Parts of a pickle outside it, and memory that the file only claims.
_REFUSED = ("PERSID", "BINPERSID", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER")


def read_array_pickle(
    path: Path, encoding: Literal["bytes", "latin1"] = "bytes", what: str = "pickle of arrays"
) -> Any:
    """What a pickle of arrays, sparse matrices, dictionaries, lists, numbers and text holds.

    Takes some 100 times the size of the file at most.

    Args:
        path: The file.
        encoding: What the text of Python 2 becomes: ``bytes``, or ``latin1`` for text.
        what: It should be, for the message.

    Returns:
        Dictionaries, lists, numbers, text, arrays, and :class:`SparseRows` for SciPy's ``csr_matrix``.

    Raises:
        DataError: If it cannot be read, is damaged, or asks for anything else, which is named.
    """
    try:
        return _plain(_Reader(io.BytesIO(path.read_bytes()), encoding=encoding).load())
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path} is no {what}: {first_line(error)}; get it again") from None


@dataclass(eq=False)
class SparseRows:
    """A sparse matrix by rows, checked.

    Attributes:
        data: Values, shape ``(E,)``.
        indices: Their columns, shape ``(E,)``.
        indptr: Row ``r`` has those from ``indptr[r]`` to ``indptr[r + 1]``, shape ``(rows + 1,)``.
        shape: Rows and columns.

    Raises:
        ValueError: If they do not fit together.
    """

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        """Check it once."""
        rows, columns = self.shape
        fits = self.data.shape == self.indices.shape == (int(self.indptr[-1]),)
        if self.indptr.shape != (rows + 1,) or self.indptr[0] != 0 or not fits:
            raise ValueError("a sparse matrix whose parts do not fit together")
        if (np.diff(self.indptr) < 0).any():
            raise ValueError("a sparse matrix whose rows overlap")
        if len(self.indices) and not 0 <= self.indices.min() <= self.indices.max() < columns:
            raise ValueError(f"a sparse matrix with a column outside 0 to {columns - 1}")

    def dense(self, path: Path) -> NDArray[Any]:
        """The whole matrix, shape ``(rows, columns)``; values at one place are added up.

        Args:
            path: Where it comes from.

        Raises:
            DataError: If that is too large for such a file.
        """
        claimed = math.prod(self.shape) * self.data.itemsize
        check_claim(path, claimed, "its sparse matrix, made dense,", "get the file again")
        made = np.zeros(self.shape, self.data.dtype)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
        np.add.at(made, (rows, self.indices), self.data)
        return made


class _Noted:
    """Something asked for, and what it was told to hold."""

    def __init__(self, kind: _Named, *given: Any) -> None:
        self.kind, self.given = kind, given
        self.state: Any = None


class _Reader(PickleMachine):
    """Takes notes of arrays, and calls nothing."""

    refusal = "it uses what no array is written with"

    def find_class(self, module: str, name: str) -> Any:
        """Only what an array is made of."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which an array has no need of")
        return _ALLOWED[module, name]

    def _called(self) -> None:
        given, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Named) or not isinstance(given, tuple):
            raise pickle.UnpicklingError("it calls what is no part of an array")
        if called is _Named.ENCODE:
            self.append(_latin1(*given))
        elif called is _Named.BYTES and not given:
            self.append(b"")
        elif called is _Named.DICT:
            self.append({})
        else:
            self.append(_Noted(called, *given))

    def _told(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Noted):
            raise pickle.UnpicklingError("it changes what is no part of an array")
        self.stack[-1].state = state

    dispatch = instructions({"REDUCE": _called, "NEWOBJ": _called, "BUILD": _told}, _REFUSED)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, _Named):
        raise ValueError(f"{value.value} stands alone")
    if not isinstance(value, _Noted):
        return value
    if value.kind is _Named.RECONSTRUCT:
        return _array(*value.state)
    if value.kind is _Named.CSR:
        state = value.state
        data, indices, indptr = (_plain(state[name]) for name in ("data", "indices", "indptr"))
        rows, columns = state["_shape"]
        return SparseRows(data, indices, indptr, (int(rows), int(columns)))
    raise ValueError(f"{value.kind.value} stands alone")


def _array(version: int, shape: tuple[int, ...], kind: _Noted, fortran: bool, raw: Any) -> NDArray[Any]:
    """From what ``ndarray.__setstate__`` would be given."""
    if version != 1 or not isinstance(raw, str | bytes):
        raise ValueError("an array that is not of numbers")
    dtype, content = _dtype(kind), raw.encode("latin1") if isinstance(raw, str) else raw
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"an array of {shape}, {dtype}, with {len(content):,} bytes")
    flat = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if fortran else "C")


def _dtype(kind: _Noted) -> np.dtype[Any]:
    """From what ``numpy.dtype`` and its ``__setstate__`` would be given."""
    code, order = kind.given[0], kind.state[1]
    code, order = (text.decode() if isinstance(text, bytes) else text for text in (code, order))
    if kind.kind is not _Named.DTYPE or not _NUMBERS.fullmatch(code) or order not in ("<", ">", "=", "|"):
        raise ValueError(f"an array of {code}, not of numbers")
    return np.dtype(order + code)


def _latin1(text: Any, encoding: Any = None) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError(f"text encoded as {encoding}")
    return text.encode("latin1")
