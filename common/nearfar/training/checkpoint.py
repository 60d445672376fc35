"""Checkpoints that survive being killed, filled disks and flipped bits.

A file is written under a temporary name, flushed to disk, tested, and only then given its final name;
loading accepts nothing whose checksums do not hold, because ``torch.load`` alone accepts a flipped bit
in silence. Files contain tensors, numbers and text, and are read with ``weights_only=True``.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from nearfar.atomic import replace_file
from nearfar.errors import CheckpointError, StorageError
from nearfar.messages import warn

SCHEMA = 2
_NAME = re.compile(r"step-([0-9]{8,18})\.ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that decides how a run goes on, and what run it belongs to.

    Attributes:
        step: Steps made.
        fingerprint: What must be equal for the run to be continued.
        method: Its state.
        optimizers: State of each by name.
        history: Validations so far.
        memory_level: Rung of the memory ladder, which moves the last bits.
        seconds: Training time so far.
        environment: What may move the last bits without being part of the run's identity.
        schema: Version of this layout.
    """

    step: int
    fingerprint: Mapping[str, str | int]
    method: Mapping[str, Any]
    optimizers: Mapping[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    memory_level: int = 0
    seconds: float = 0.0
    environment: Mapping[str, str | int] = field(default_factory=dict)
    schema: int = SCHEMA


def _from_schema_1(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "memory_level": 0, "seconds": 0.0, "schema": 2}


MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_schema_1}


class CheckpointStore:
    """The checkpoints of one run in one folder: the latest few and the best.

    There is no pointer to the newest or the best that could be lost or wrong: the newest is the highest step
    whose file passes its tests, the best follows from the history inside.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` lives."""
        return self.folder / f"step-{step:08d}.ckpt"

    def steps(self) -> list[int]:
        """Steps with a committed checkpoint, ascending."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*.ckpt"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, checkpoint: Checkpoint, *, best: int | None = None) -> Path:
        """Commit a checkpoint and delete those no longer kept.

        Args:
            checkpoint: What to keep.
            best: Step of the best so far, kept beside the latest.

        Raises:
            StorageError: If it cannot be written; earlier checkpoints are intact and no partial file is left.
        """
        path = self.path(checkpoint.step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, lambda file: torch.save(_plain(checkpoint), file), _verify)
        except (OSError, RuntimeError, CheckpointError) as error:
            raise StorageError(f"cannot save the checkpoint {path}: {error}") from error
        for step in self.steps()[: -self.keep]:
            if step != best:
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
        found = content.get("schema") if isinstance(content, dict) else None
        while migrate := MIGRATIONS.get(found) if type(found) is int else None:
            content = migrate(content)
            found = content["schema"]
        if found != SCHEMA:
            raise CheckpointError(f"{path} has schema {found}, this version reads 1 to {SCHEMA}")
        try:
            checkpoint = Checkpoint(**content)
            _check(checkpoint, step, path.stat().st_size)
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is not a nearfar checkpoint: {error}") from error
        return checkpoint

    def load_latest(self, fingerprint: Mapping[str, str | int]) -> Checkpoint | None:
        """The newest usable checkpoint; damaged ones are set aside as ``*.corrupt``, half-written ones removed.

        Args:
            fingerprint: What the run is; the checkpoint's must be equal.

        Returns:
            The checkpoint, or ``None`` when the folder holds none.

        Raises:
            CheckpointError: If every one is damaged, or the newest belongs to another run.
        """
        for litter in self.folder.glob("*.tmp"):
            litter.unlink()
        damaged = []
        for step in reversed(self.steps()):
            try:
                checkpoint = self.load(step)
            except CheckpointError as error:
                damaged.append(str(error))
                self.path(step).rename(self.path(step).with_suffix(".ckpt.corrupt"))
                warn(f"{error}; set aside as *.corrupt, the one before is used")
                continue
            check_same_run(checkpoint.fingerprint, fingerprint, str(self.path(step)))
            return checkpoint
        if damaged:
            raise CheckpointError("no checkpoint is usable: " + "; ".join(damaged))
        return None

    def clear(self) -> None:
        """Remove what an earlier run left here, half-written files included."""
        for pattern in ("step-*.ckpt", "step-*.corrupt", "*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink()


def check_same_run(found: Mapping[str, str | int], expected: Mapping[str, str | int], where: str) -> None:
    """Refuse to continue another run.

    Args:
        found: Fingerprint of what is there.
        expected: Fingerprint of the run to continue.
        where: Its place, for the message.

    Raises:
        CheckpointError: Naming every key that differs, old and new.
    """
    differing = [
        f"{key}: {found.get(key, 'nothing')} in the checkpoint, {expected.get(key, 'nothing')} now"
        for key in dict.fromkeys([*expected, *found])
        if found.get(key) != expected.get(key)
    ]
    if differing:
        raise CheckpointError(
            f"{where} belongs to another run ({'; '.join(differing)}); "
            "choose another output_dir, or the same settings and data"
        )


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    """A dict of what ``weights_only`` accepts; tensors are shared, not copied."""
    for tensor in _tensors([checkpoint.method, checkpoint.optimizers]):
        sparse = tensor.layout != torch.strided
        if sparse or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            # Loading refuses it, for good reasons; so it must not be written either.
            raise CheckpointError(
                f"state of shape {tuple(tensor.shape)} is {'sparse' if sparse else 'an expanded view'}; keep "
                f"{'to_dense()' if sparse else 'contiguous()'} of it in the buffer"
            )
    return {part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}


def _check(checkpoint: Checkpoint, step: int, size: int) -> None:
    """Refuse what was written by nobody who knows this layout, with checksums that hold."""
    for part, kind in (
        *(("fingerprint", dict), ("method", dict), ("optimizers", dict), ("history", list)),
        *(("memory_level", int), ("seconds", int | float), ("environment", dict)),
    ):
        if not isinstance(found := getattr(checkpoint, part), kind):
            raise TypeError(f"{part} is of type {type(found).__name__}")
    if checkpoint.step != step:
        raise ValueError(f"it is of step {checkpoint.step}, its name of step {step}")
    for entry in checkpoint.history:
        if not isinstance(entry, dict) or not all(isinstance(value, int | float) for value in entry.values()):
            raise TypeError("history holds something other than numbers by name")
    for tensor in _tensors([checkpoint.method, checkpoint.optimizers]):
        # Strides of zero and sparse forms make much of little, and whoever copies such a tensor pays.
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is in a file of {size:,} bytes")


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, Mapping):
        for part in content.values():
            yield from _tensors(part)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from _tensors(part)


def _verify(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            # torch stores its files uncompressed: anything that claims to be larger than the file is a trap.
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise CheckpointError("it claims to hold more than its size")
            broken = archive.testzip()
    except Exception as error:  # a damaged archive makes zipfile raise almost anything
        raise CheckpointError(f"{path} is missing or damaged: {error}") from error
    if broken is not None:
        raise CheckpointError(f"{path} is damaged: checksum of {broken} does not hold")
