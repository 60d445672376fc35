"""Checkpoints that survive being killed, filled disks and flipped bits.

A file is written under a temporary name, flushed to disk, tested, and only then given its final name;
loading accepts nothing whose checksums do not hold, because ``torch.load`` alone accepts a flipped bit
in silence. Files contain tensors, numbers and text, and are read with ``weights_only=True``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from nearfar.atomic import replace_file, write_atomically
from nearfar.errors import CheckpointError, StorageError

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything that decides how a run goes on, and what run it belongs to."""

    step: int
    fingerprint: Mapping[str, str | int]
    method: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    environment: Mapping[str, str | int] = field(default_factory=dict)
    schema: int = SCHEMA


class CheckpointStore:
    """The checkpoints of one run in one folder: the latest few and the best."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` lives."""
        return self.folder / f"step-{step:08d}.ckpt"

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.ckpt"))

    def save(self, checkpoint: Checkpoint, *, is_best: bool = False) -> Path:
        """Commit a checkpoint and delete those no longer kept.

        Args:
            checkpoint: What to keep.
            is_best: Keep this one, whatever comes later, until another is the best.

        Raises:
            StorageError: If it cannot be written; earlier checkpoints are intact and no partial file is left.
        """
        path = self.path(checkpoint.step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: torch.save(_plain(checkpoint), file), _verify)
            write_atomically(self.folder / "LATEST", path.name)
            if is_best:
                write_atomically(self.folder / "BEST", path.name)
        except (OSError, RuntimeError, CheckpointError) as error:
            raise StorageError(f"cannot save the checkpoint {path}: {error}") from error
        best = self.folder / "BEST"
        kept = best.read_text(encoding="utf-8") if best.exists() else ""
        for step in self.steps()[: -self.keep]:
            if self.path(step).name != kept:
                self.path(step).unlink(missing_ok=True)
        return path

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of one step.

        Raises:
            CheckpointError: If it is missing, damaged or of another schema.
        """
        path = self.path(step)
        _verify(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{path} is not a nearfar checkpoint: {error}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise CheckpointError(f"{path} has schema {found}, this version reads {SCHEMA}")
        return Checkpoint(**content)

    def load_latest(self, fingerprint: Mapping[str, str | int]) -> Checkpoint | None:
        """The newest usable checkpoint; damaged ones are set aside as ``*.corrupt``.

        Args:
            fingerprint: What the run is; the checkpoint's must be equal.

        Returns:
            The checkpoint, or ``None`` when the folder holds none.

        Raises:
            CheckpointError: If every one is damaged, or the newest belongs to another run.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                checkpoint = self.load(step)
            except CheckpointError as error:
                damaged.append(str(error))
                self.path(step).rename(self.path(step).with_suffix(".ckpt.corrupt"))
                continue
            differing = [
                f"{key}: {checkpoint.fingerprint.get(key)} in the checkpoint, {value} now"
                for key, value in fingerprint.items()
                if checkpoint.fingerprint.get(key) != value
            ]
            if differing:
                raise CheckpointError(
                    f"{self.path(step)} belongs to another run ({'; '.join(differing)}); "
                    "choose another output_dir, or the same settings and data"
                )
            return checkpoint
        if damaged:
            raise CheckpointError("no checkpoint is usable: " + "; ".join(damaged))
        return None

    def clear(self) -> None:
        """Remove what an earlier run left here, half-written files included."""
        for pattern in ("step-*.ckpt", "step-*.corrupt", "*.tmp", "LATEST", "BEST"):
            for path in self.folder.glob(pattern):
                path.unlink()


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    """A dict of what ``weights_only`` accepts; tensors are shared, not copied."""
    return {part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}


def _verify(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # a damaged archive makes zipfile raise almost anything
        raise CheckpointError(f"{path} is missing or damaged: {error}") from error
    if broken is not None:
        raise CheckpointError(f"{path} is damaged: checksum of {broken} does not hold")
