"""The folder of a run: ``config.yaml``, ``run.json``, ``checkpoints/``, ``model/``, curves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import yaml

from nearfar.atomic import write_atomically
from nearfar.config import RunConfig, config_hash
from nearfar.errors import ConfigError, StorageError
from nearfar.tracking.names import slug

# What a run may leave in its folder; anything else belongs to somebody.
OWN = (
    "checkpoints",
    "config.yaml",
    "curves.csv",
    "curves.png",
    "environment.json",
    "model",
    "outbox.jsonl",
    "run.json",
)


class OutputFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.curves_csv, self.curves_png = path / "curves.csv", path / "curves.png"
        self.config_yaml, self.environment_json = path / "config.yaml", path / "environment.json"
        self.outbox = path / "outbox.jsonl"

    @classmethod
    def of(cls, config: RunConfig, method: str, dataset: str) -> OutputFolder:
        """``output_dir``, or a name made of data set, method, settings and seed below ``outputs/``."""
        if config.output_dir is not None:
            return cls(config.output_dir.expanduser().absolute())
        name = f"{method}-{config_hash(config)[:6]}-s{config.seed}"
        return cls(Path("outputs").absolute() / slug(dataset) / name)

    def prepare(self, config: RunConfig) -> None:
        """Create the folder, or empty it of an earlier run.

        Raises:
            ConfigError: If it holds files that are not a run's.
            StorageError: If it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            strangers = sorted(
                p.name for p in self.path.iterdir() if p.name not in OWN and ".tmp" not in p.name
            )
            if strangers:
                raise ConfigError(
                    f"output_dir: {self.path} holds files that are not a run's ({', '.join(strangers[:3])}); "
                    "choose a new folder"
                )
            for name in OWN:
                path = self.path / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            write_atomically(self.config_yaml, text)
        except OSError as error:
            raise StorageError(
                f"output_dir: {self.path} cannot be written: {error.strerror}; choose another folder"
            ) from None

    def write_status(self, status: str, **details: Any) -> None:
        """Say in ``run.json`` how the run stands, whatever becomes of the tracker.

        Raises:
            StorageError: If the file cannot be written.
        """
        record = {
            "status": status,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
            **details,
        }
        try:
            write_atomically(self.path / "run.json", json.dumps(record, indent=2))
        except OSError as error:
            raise StorageError(f"{self.path / 'run.json'} cannot be written: {error.strerror}") from None
