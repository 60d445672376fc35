"""The folder of a run: ``config.yaml``, ``run.json``, ``checkpoints/``, ``model/``, curves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nearfar.atomic import write_atomically
from nearfar.config import RunConfig, config_hash
from nearfar.errors import ConfigError, StorageError
from nearfar.messages import warn
from nearfar.optional import require
from nearfar.redaction import redacted_values
from nearfar.tracking import set_aside
from nearfar.tracking.names import slug

# What a run of any domain may leave in its folder; anything else but its task's own files belongs to somebody.
OWN = (
    ".lock",
    "checkpoints",
    "config.yaml",
    "curves.csv",
    "curves.png",
    "diverged",
    "environment.json",
    "model",
    "outbox.jsonl",
    "outbox.sent",
    "run.json",
)


class OutputFolder:
    """The files of one run.

    Args:
        path: The folder.
        reports: Files that the task of the run may leave in it, by name.
    """

    def __init__(self, path: Path, reports: Sequence[str] = ()) -> None:
        self.path, self.own = path, frozenset((*OWN, *reports))
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.curves_csv, self.curves_png = path / "curves.csv", path / "curves.png"
        self.config_yaml, self.environment_json = path / "config.yaml", path / "environment.json"
        self.outbox = path / "outbox.jsonl"
        self.diverged = path / "diverged"

    @classmethod
    def of(cls, config: RunConfig, method: str, dataset: str, reports: Sequence[str] = ()) -> OutputFolder:
        """``output_dir``, or a name made of data set, method, settings and seed below ``outputs/``."""
        if config.output_dir is not None:
            return cls(config.output_dir.expanduser().absolute(), reports)
        name = f"{method}-{config_hash(config)[:6]}-s{config.seed}"
        return cls(Path("outputs").absolute() / slug(dataset) / name, reports)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Have the folder for oneself; made when new.

        The system forgets the claim of a process that dies, however it dies.

        Raises:
            ConfigError: If it holds files that are not a run's.
            StorageError: If another process has it, or it cannot be written.
        """
        self._refuse_strangers()
        filelock = require("filelock", "keeping a run's folder to oneself")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=0)
            lock.acquire()
        except filelock.Timeout:
            holder = self.status() or {}
            raise StorageError(
                f"output_dir: {self.path} is in use by process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')}; wait for it, or choose another folder"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            lock.release()

    def prepare(self, config: RunConfig, *, keep: bool) -> None:
        """Write the settings, and empty the folder of an earlier run unless that is continued.

        Args:
            config: Of the run.
            keep: Whether to go on with what is there.

        Raises:
            StorageError: If it cannot be written.
        """
        if not keep:
            set_aside(self.outbox, warn)
        try:
            for name in self.own if not keep else ():
                path = self.path / name
                if name != ".lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            text = yaml.safe_dump(
                redacted_values(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True
            )
            write_atomically(self.config_yaml, text)
        except OSError as error:
            raise self._unwritable(error) from None

    def _refuse_strangers(self) -> None:
        if not self.path.is_dir():
            return
        strangers = sorted(
            p.name
            for p in self.path.iterdir()
            if p.name not in self.own and ".tmp" not in p.name and not p.name.startswith("outbox-")
        )
        if strangers:
            raise ConfigError(
                f"output_dir: {self.path} holds files that are not a run's ({', '.join(strangers[:3])}); "
                "choose a new folder"
            )

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"output_dir: {self.path} cannot be written: {error.strerror or error}; choose another folder"
        )

    def status(self) -> dict[str, Any] | None:
        """What ``run.json`` says, ``None`` when there is none (or it is not what a run writes)."""
        try:
            record = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or not isinstance(record.get("fingerprint", {}), dict):
            return None
        return record

    def write_status(self, status: str, **details: Any) -> None:
        """Say in ``run.json`` how the run stands, whatever becomes of the tracker; earlier details stay.

        Raises:
            StorageError: If the file cannot be written.
        """
        record = {
            **(self.status() or {}),
            "status": status,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
            **details,
        }
        try:
            write_atomically(self.path / "run.json", json.dumps(redacted_values(record), indent=2))
        except OSError as error:
            raise StorageError(f"{self.path / 'run.json'} cannot be written: {error.strerror}") from None
