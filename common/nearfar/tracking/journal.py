"""The journal of one run: every operation on the tracking store, in order, one JSON object a line.

It is written by the training thread and read by whoever delivers, so the file is the queue between them:
no memory grows while a server is away, and what a killed process had said is still there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nearfar.errors import StorageError, first_line

Operation = dict[str, Any]
MOST_UNWRITTEN = 10_000
_BLOCK = 1 << 16


class Journal:
    """Appends operations; after a crash the first thing it does is cut a torn last line.

    Args:
        path: The file; its folder is created.
        warn: Told once when the disk is full, and when something had to be dropped.
        fresh: Begin an empty journal instead of going on with the one that is there.

    Raises:
        StorageError: If the file cannot be opened for writing.
    """

    def __init__(self, path: Path, warn: Callable[[str], None], *, fresh: bool = False) -> None:
        self.path, self._warn = path, warn
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque()
        self._troubled = False
        self.num_lost = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags | (os.O_TRUNC if fresh else 0), 0o644)
            self.size = _whole_lines(self._file)
            os.ftruncate(self._file, self.size)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from None

    def append(self, operation: Mapping[str, Any]) -> None:
        """Write one line and return; a full disk keeps it in memory until there is room."""
        line = json.dumps(operation, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file < 0:
                return
            self._unwritten.append(line)
            self._write()

    def _write(self) -> None:
        try:
            while self._unwritten:
                line = self._unwritten[0]
                written = os.write(self._file, line)
                if written < len(line):
                    raise OSError(0, "the disk is full")
                self.size += written
                self._unwritten.popleft()
        except OSError as error:
            if not self._troubled:
                self._troubled = True
                self._warn(f"{self.path} cannot be written ({error.strerror}); training goes on")
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)  # no half a line in front of the next one
            if len(self._unwritten) > MOST_UNWRITTEN:
                self._unwritten.popleft()
                self.num_lost += 1
        else:
            self._troubled = False

    def persist(self) -> int:
        """Flush to the disk what has been written; returns the size that is now safe."""
        size = self.size
        try:
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            self._warn(f"{self.path} cannot be flushed to disk: {first_line(error)}")
        return size

    def unwritten(self) -> list[Operation]:
        """Operations the disk has not taken."""
        with self._lock:
            self._write()
            return [json.loads(line) for line in self._unwritten]

    def close(self) -> None:
        """Take no more; what is said afterwards is dropped."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1


def _whole_lines(file: int) -> int:
    """Length of the file up to and with its last newline."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def operations(path: Path, offset: int = 0, until: int | None = None) -> Iterator[tuple[Operation, int]]:
    """Complete operations from ``offset`` on, each with the offset behind it.

    Args:
        path: A journal; nothing is yielded when it does not exist.
        offset: Where a line begins.
        until: Stop there; ``None`` means at the end.

    Yields:
        The operation (``{"op": "damaged"}`` for a line that is no JSON object) and where the next begins.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            offset += len(line)
            if not line.endswith(b"\n") or (until is not None and offset > until):
                return
            try:
                operation = json.loads(line)
                sound = _is_sound(operation)
            except (ValueError, TypeError, OverflowError, RecursionError):
                sound = False
            yield operation if sound else {"op": "damaged"}, offset


# What every kind of line has to have, and of which types.
_PARTS: Mapping[str, Mapping[str, Any]] = {
    "create": {"id": str, "experiment": str, "name": str, "time": int, "tags": dict, "params": dict},
    "metrics": {"step": int, "time": int, "values": dict},
    "tag": {"tags": dict},
    "dataset": {"name": str, "digest": str, "source": str},
    "artifact": {"path": str, "folder": str | None},
    "model": {"builder": str, "folder": str},
    "resume": {"time": int, "count": int, "tags": dict},
    "end": {"status": str, "time": int, "reason": str | None},
}
_ID = re.compile(r"\w{1,64}")
_PARENT = re.compile(r"[\w:-]{1,128}")


def _is_sound(operation: Any) -> bool:
    """Whether a line is what a run writes: a file may be damaged, or be made up."""
    if not isinstance(operation, dict) or not isinstance(operation.get("op"), str):
        return False
    parts = _PARTS.get(operation["op"], {})
    if not all(name in operation and isinstance(operation[name], kind) for name, kind in parts.items()):
        return False
    if operation["op"] == "metrics":
        return abs(operation["step"]) < 1 << 63 and all(
            isinstance(value, int | float) and math.isfinite(value) for value in operation["values"].values()
        )
    if operation["op"] == "create":
        parent, uri = operation.get("parent"), operation.get("uri")
        # The id becomes part of a file's name and of a search, the parent part of a search.
        return (
            _ID.fullmatch(operation["id"]) is not None
            and (parent is None or _PARENT.fullmatch(parent) is not None)
            and isinstance(uri, str | None)
            and {"uri", "parent"} <= operation.keys()
        )
    return True


def header(path: Path) -> Operation | None:
    """The operation that creates the run; ``None`` for anything that is no journal.

    Args:
        path: A journal.
    """
    first = next(operations(path), ({"op": "damaged"}, 0))[0]
    return first if first["op"] == "create" else None


def read(path: Path) -> list[tuple[str, int, float]]:
    """Every metric value in the order it was logged.

    Args:
        path: A journal.

    Returns:
        ``(key, step, value)`` each.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal(Path(folder) / "outbox.jsonl", warn=print)
        ...     journal.append({"op": "metrics", "step": 3, "time": 1000, "values": {"train/loss": 0.5}})
        ...     read(journal.path)
        [('train/loss', 3, 0.5)]
    """
    return [
        (key, int(operation["step"]), float(value))
        for operation, _ in operations(path)
        if operation["op"] == "metrics"
        for key, value in operation["values"].items()
    ]
