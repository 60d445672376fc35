"""The file of a local study: one JSON record a line, and what may be left of the last one.

A process that dies inside a write leaves half a line, and Optuna would append the next record to it:
one record lost, and the file unreadable from then on. So the torn tail is cut under the very lock
that every writer takes. That lock belongs to the operating system, which frees it when its holder
dies; Optuna's own, a symbolic link, makes everybody wait 30 seconds for a dead one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearfar.errors import StorageError, first_line
from nearfar.optional import require

LOCK_SECONDS = 120.0
POLL_SECONDS = 0.005
_BLOCK = 1 << 16


def file_lock(path: Path, purpose: str) -> Any:
    """A ``filelock.FileLock`` beside ``path``.

    Args:
        path: File to be guarded.
        purpose: Tells several locks of one file apart.
    """
    filelock = require("filelock", "tuning")
    name = path.with_name(f".{path.name}.{purpose}")
    return filelock.FileLock(name, timeout=LOCK_SECONDS, poll_interval=POLL_SECONDS)


class JournalLock:
    """What Optuna takes before it appends; whoever gets it finds whole lines only.

    Args:
        path: The journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = file_lock(path, "append")

    def acquire(self) -> bool:
        """Wait for the lock, then cut a torn tail.

        Raises:
            StorageError: If it is not free within two minutes.
        """
        try:
            self._lock.acquire()
        except TimeoutError:  # filelock.Timeout is one
            raise StorageError(f"another process has held {self._lock.lock_file} for two minutes") from None
        try:
            _cut_torn_tail(self._path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one in."""
        self._lock.release()


def heal_journal(path: Path) -> int:
    """Cut what follows the last newline; returns how many bytes that were.

    Args:
        path: A journal; one that does not exist is healthy.

    Raises:
        StorageError: If the file cannot be read or written.
    """
    if not path.exists():
        return 0
    before = path.stat().st_size
    lock = JournalLock(path)
    try:
        lock.acquire()
        lock.release()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be repaired: {error.strerror}") from None
    return max(0, before - path.stat().st_size)


def open_journal(path: Path) -> Any:
    """Optuna's storage on a healed journal, created when new.

    Raises:
        StorageError: If the file cannot be written, or is damaged before its last line.
    """
    storages = require("optuna.storages", "tuning")
    backends = require("optuna.storages.journal", "tuning")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise StorageError(f"the study's file {path} cannot be written: {error.strerror}") from None
    heal_journal(path)
    try:
        return storages.JournalStorage(backends.JournalFileBackend(str(path), lock_obj=JournalLock(path)))
    except Exception as error:  # a line that is not Optuna's makes it raise almost anything
        raise StorageError(
            f"the study's file {path} is damaged ({first_line(error)}); give the study another name, or restore "
            "the file from a copy"
        ) from error


def _cut_torn_tail(path: Path) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        kept = end
        while kept > 0:
            start = max(0, kept - _BLOCK)
            file.seek(start)
            newline = file.read(kept - start).rfind(b"\n")
            if newline >= 0:
                kept = start + newline + 1
                break
            kept = start
        if kept < end:
            file.truncate(kept)
