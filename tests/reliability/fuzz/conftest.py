"""What the fuzz tests share: how a valid file is spoilt, and what a reader may do with it then.

A reader returns what is valid, or raises an error of nearfar's that names the file. Anything else is a bug: another
exception, a file written or changed, minutes, gigabytes.
"""

from __future__ import annotations

import copy
import faulthandler
import io
import json
import re
import resource
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

from nearfar.errors import CheckpointError, ConfigError, DataError, StorageError  # noqa: E402
from nearfar.runtime import numpy_generator  # noqa: E402

Read: TypeAlias = Callable[[Path], Any]
Check: TypeAlias = Callable[..., None]
REFUSALS = (DataError, ConfigError, CheckpointError, StorageError)
LONGEST_SECONDS = 60
MOST_MIB = 768

NASTY = [
    *(b"", b"\0", b"\n", b"\r\n", b"\r", b"\t", b",", b'"', b"'", b":", b"=", b"#", b"@", b"\\", b"-", b" "),
    *(
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xed\xa0\x80",
        "é".encode(),
        "\uff4e".encode(),
        "\u2028".encode(),
        b"\xc2\xa0",
    ),
    *(b"nan", b"NaN", b"inf", b"-inf", b"1e400", b"-1e400", b"1e-400", b"0", b"-1", b"1.5", b"1e9", b"true"),
    *(b"9" * 19, b"9" * 400, b"9" * 5000, str(2**63).encode(), str(-(2**63) - 1).encode(), b"0x10", b"1_0"),
    *(b"null", b"None", b"~", b"{}", b"[]", b"2020-01-01", b"2020-13-45", b"..", b"../../x", b"/etc/passwd"),
    *(b"[" * 3000, b"{" * 200, b"((((((", b"a," * 300, b"x" * 3000, b"!!python/object:os.system", b"&a *a"),
    *(b"\x80\x04", b"cos\nsystem\n", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY", b"PAR1"),
]
DTYPES = "f2 f4 f8 i1 i4 i8 u1 u8 b1 U8 S4 c8 M8[s] m8[s] V4 >f8".split()  # noqa: SIM905
DEEP: Any = "x"
for _ in range(60):
    DEEP = [DEEP]
WRONG: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 10**30, -(2**63), 0.5, float("nan"), float("inf"), 1e300),
    *("", "x", "\ud800", "\0", "../../x", "7", "nan", "é" * 50, [], {}, [[]], [None], [1, 2, 3], {"a": 1}),
    *({"name": []}, DEEP, list(range(40)), ["x"] * 40),
]


@st.composite
def spoilt_bytes(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` with one to four things done to it."""
    content = original
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
        do = draw(st.sampled_from(["byte", "insert", "token", "cut", "delete", "double", "move", "lines"]))
        if do == "byte":
            content = content[:start] + bytes([draw(st.integers(0, 255))]) + content[start + 1 :]
        elif do == "insert":
            content = content[:start] + draw(st.sampled_from(NASTY)) + content[start:]
        elif do == "token":
            content = _other_token(content, start, draw(st.sampled_from(NASTY)))
        elif do == "cut":
            content = content[:start]
        elif do == "delete":
            content = content[:start] + content[min(end, start + draw(st.integers(1, 40))) :]
        elif do == "double":
            content = content[:end] + content[start:]
        elif do == "move":
            content = content[end:] + content[:end]
        else:
            lines = content.split(b"\n")
            place = draw(st.integers(0, len(lines) - 1))
            line = draw(st.sampled_from([b"", b"x", lines[place] * 2, lines[0], lines[-1]]))
            content = b"\n".join([*lines[:place], line, *lines[place + draw(st.integers(0, 1)) :]])
    return content


def _other_token(content: bytes, start: int, other: bytes) -> bytes:
    """A word or number at or behind a place is another."""
    found = re.compile(rb"[\w.+-]+").search(content, start)
    return content if found is None else content[: found.start()] + other + content[found.end() :]


@st.composite
def spoilt_value(draw: st.DrawFn, original: Any) -> Any:
    """Dictionaries and lists in which one to three parts are others, gone, or there twice."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 3))):
        inside, key = value, None
        above: Any = None
        while isinstance(inside, dict | list) and inside and (above is None or draw(st.booleans())):
            key = draw(
                st.sampled_from(list(inside) if isinstance(inside, dict) else list(range(len(inside))))
            )
            above, inside = inside, inside[key]
        if above is None:
            return copy.deepcopy(draw(st.sampled_from(WRONG)))
        do = draw(st.sampled_from(["other", "other", "other", "gone", "new"]))
        if do == "gone":
            del above[key]
        elif do == "new" and isinstance(above, dict):
            above[draw(st.sampled_from(["", "x", "num_items", "format"]))] = copy.deepcopy(
                draw(st.sampled_from(WRONG))
            )
        else:
            above[key] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    return value


@st.composite
def spoilt_array(draw: st.DrawFn, original: np.ndarray[Any, Any]) -> Any:
    """Other numbers, another type, another shape."""
    array = original
    for _ in range(draw(st.integers(1, 2))):
        do = draw(st.sampled_from(["value", "value", "dtype", "shape", "other"]))
        if do == "value" and array.size and array.dtype.kind in "iuf":
            array = array.copy()
            place = draw(st.integers(0, array.size - 1))
            if array.dtype.kind == "f":
                value: Any = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1.0, 0.0]))
            else:
                limits = np.iinfo(array.dtype)
                value = draw(st.sampled_from([limits.min, limits.max, 0, 1]))
            with np.errstate(over="ignore"):
                array.reshape(-1)[place] = value
        elif do == "dtype":
            kind = draw(st.sampled_from(DTYPES))
            try:
                with np.errstate(all="ignore"):
                    array = array.astype(kind)
            except (TypeError, ValueError, RuntimeError):
                array = np.zeros(array.shape, kind)
        elif do == "shape":
            shapes = [
                (),
                (0,),
                (0, 3),
                (3, 0),
                (1,),
                (1, 1, 1),
                (array.size,),
                (1, *array.shape),
                array.shape[::-1],
            ]
            shape = draw(st.sampled_from(shapes))
            flat = array.reshape(-1)
            array = np.resize(flat, shape) if flat.size else np.zeros(shape, array.dtype)
        else:
            array = draw(st.sampled_from([array.reshape(-1)[:1], array.T, np.array("x"), np.zeros((2, 2))]))
    return array


@st.composite
def spoilt_npz(draw: st.DrawFn, arrays: dict[str, Any]) -> bytes:
    """A file of arrays in which bytes, bytes of one array, or the arrays themselves are others."""
    level = draw(st.sampled_from(["file", "member", "arrays", "arrays"]))
    if level == "arrays":
        changed = dict(arrays)
        for name in draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2)):
            changed[name] = draw(spoilt_array(arrays[name]))
        if draw(st.integers(0, 9)) == 0:
            del changed[draw(st.sampled_from(sorted(changed)))]
        return npz(changed)
    content = npz(arrays)
    if level == "file":
        return draw(spoilt_bytes(content))
    name = draw(st.sampled_from(sorted(arrays)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {member: archive.read(member) for member in archive.namelist()}
    parts[f"{name}.npy"] = draw(spoilt_bytes(parts[f"{name}.npy"]))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for member, part in parts.items():
            archive.writestr(member, part)
    return packed.getvalue()


def npz(arrays: dict[str, Any]) -> bytes:
    """The file."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


def spoilt_json(original: Any) -> st.SearchStrategy[bytes]:
    """JSON of other values, or with other bytes."""
    text = json.dumps(original).encode()
    values = spoilt_value(original).map(lambda value: json.dumps(value).encode())
    return st.one_of(values, values, spoilt_bytes(text))


class Fuzz:
    """Spoils and reads; one folder for all of it."""

    spoilt_bytes, spoilt_json, spoilt_npz = (
        staticmethod(spoilt_bytes),
        staticmethod(spoilt_json),
        staticmethod(spoilt_npz),
    )
    spoilt_value, npz = staticmethod(spoilt_value), staticmethod(npz)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, files: dict[str, bytes], read: Read, named: Sequence[str] = ()) -> Any:
        """Write files into an empty folder and read them.

        Args:
            files: By name.
            read: Given the folder.
            named: Names one of which a refusal must have in it; those of all files by default.

        Returns:
            What was read; ``None`` when it was refused.
        """
        self._clear(self.folder)
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before, memory = self._content(), _peak_mib()
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True, file=2)
        found = None
        try:
            found = read(self.folder)
        except REFUSALS as error:
            text = str(error)
            names = named or [Path(name).stem for name in files]
            assert any(name in text for name in names), f"the message names no file: {text}"
            assert len(text) < 4000 + 2 * sum(map(len, files.values())), text[:200]
        finally:
            faulthandler.cancel_dump_traceback_later()
        assert _peak_mib() - memory < MOST_MIB, "it took memory out of all proportion"
        assert self._content() == before, "reading wrote something"
        return found

    def _content(self) -> dict[str, bytes]:
        files = (
            path for path in sorted(self.folder.rglob("*")) if path.is_file() and path.suffix != ".append"
        )
        return {str(path): path.read_bytes() for path in files}  # that one is a lock, and empty

    def _clear(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path.is_dir():
                self._clear(path)
                path.rmdir()
            else:
                path.unlink()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(scope="session")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    """Spoils and reads."""
    return Fuzz(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(scope="session")
def rng() -> np.random.Generator:
    """For the numbers in the valid files."""
    return numpy_generator(0, "fuzz")
