"""A run that was trained before, found by its folder or its MLflow id, ready to be used again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nearfar.config import RunConfig, yaml12
from nearfar.errors import CheckpointError, ConfigError, NearfarError, StorageError
from nearfar.pipelines.output import OutputFolder
from nearfar.pipelines.registry import find
from nearfar.registry import MethodEntry
from nearfar.runtime import resolve_device
from nearfar.tracking import open_store
from nearfar.training import CheckpointStore, Method, Task
from nearfar.training.selection import best_step

__all__ = ["ExportFormat", "Trained", "evaluate", "export", "load"]

ExportFormat = Literal["safetensors", "torch", "onnx"]


@dataclass(frozen=True)
class Trained:
    """A method with the weights of its best validation, and the data it was trained on.

    Attributes:
        entry: The method's entry.
        config: Settings of the run.
        task: The data.
        method: The method.
        folder: The run's folder.
        step: Step of the weights.
    """

    entry: MethodEntry
    config: RunConfig
    task: Task
    method: Method
    folder: OutputFolder
    step: int


def load(target: str, *, device: str = "auto", uri: str | None = None) -> Trained:
    """Read a run back.

    Args:
        target: Its output folder, or its MLflow run id.
        device: Where the method goes.
        uri: Store to look the id up in.

    Raises:
        ConfigError: If there is no such run.
        CheckpointError: If its checkpoint is missing or damaged, or the data are not those it was trained on.
        DataError: If the data cannot be read any more.
    """
    folder = OutputFolder(_folder(target, uri))
    name = _method_name(folder)
    entry = find(name)
    config: RunConfig = entry.load("config").model_validate(yaml12.load(folder.config_yaml))
    task: Task = entry.load("task")(config, entry.load("method"))
    _check_data(folder, task)
    checkpoints = CheckpointStore(folder.checkpoints)
    if not checkpoints.steps():
        raise CheckpointError(f"{folder.checkpoints} holds no checkpoint; train the run again")
    newest = checkpoints.load(checkpoints.steps()[-1])
    best = best_step(newest.history, config.selection)
    chosen = newest if best is None or best == newest.step else checkpoints.load(best)
    method = task.build(config).to(resolve_device(device))
    method.load_state_dict(chosen.method)
    return Trained(entry, config, task, method.eval(), folder, chosen.step)


def evaluate(
    target: str, *, split: str = "test", device: str = "auto", uri: str | None = None
) -> dict[str, float]:
    """Measure a trained run again.

    Args:
        target: Its output folder, or its MLflow run id.
        split: ``val`` or ``test``.
        device: Where to compute.
        uri: Store to look the id up in.

    Returns:
        ``<split>/<metric>``, as when it was trained.

    Raises:
        ConfigError: As :func:`load`, or if ``split`` is neither.
        CheckpointError: As :func:`load`.
    """
    if split not in ("val", "test"):
        raise ConfigError(f"split: val or test expected, got '{split}'")
    run = load(target, device=device, uri=uri)
    return {f"{split}/{k}": v for k, v in run.task.evaluate(run.method, split).items()}  # type: ignore[arg-type]


def export(
    target: str, destination: Path, *, form: ExportFormat = "safetensors", uri: str | None = None
) -> Path:
    """Write a trained run's model into a folder of its own.

    Args:
        target: Its output folder, or its MLflow run id.
        destination: A folder that is new or empty.
        form: ``safetensors``: weights and JSON, read by nearfar, no pickle. ``torch`` and ``onnx``: graphs that run
            without nearfar.
        uri: Store to look the id up in.

    Returns:
        The folder.

    Raises:
        ConfigError: As :func:`load`, or if ``destination`` holds something, or the method has no such form.
        CheckpointError: As :func:`load`.
        MissingDependencyError: If the form needs a package that is not installed.
        StorageError: If it cannot be written; nothing half-written is left.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConfigError(f"destination: {destination} is not empty; name a new folder")
    run = load(target, device="cpu", uri=uri)
    existed = destination.exists()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if form == "safetensors":
            run.task.export(run.method, destination)
        else:
            run.task.export_graphs(run.method, destination, form)
    except NearfarError:
        raise
    except OSError as error:
        if not existed:
            shutil.rmtree(destination, ignore_errors=True)
        raise StorageError(f"{destination} cannot be written: {error.strerror or error}") from error
    return destination


def _folder(target: str, uri: str | None) -> Path:
    path = Path(target).expanduser().absolute()
    if (path / "config.yaml").is_file():
        return path
    if path.exists():
        raise ConfigError(f"{target} is not the folder of a run: it has no config.yaml")
    store = open_store(uri)
    try:
        run = store.client.get_run(target)
    except Exception:
        raise ConfigError(
            f"there is no run '{target}': neither a folder nor the id of a run in {store.uri}"
        ) from None
    place = run.data.tags.get("nearfar.output_dir")
    if place is None or not (Path(place) / "config.yaml").is_file():
        raise ConfigError(f"run {target} was written to {place}, which is not on this machine any more")
    return Path(place)


def _method_name(folder: OutputFolder) -> str:
    status = folder.status() or {}
    name = status.get("fingerprint", {}).get("method")
    if name is None:
        raise ConfigError(f"{folder.path / 'run.json'} does not say which method was trained")
    return str(name)


def _check_data(folder: OutputFolder, task: Task) -> None:
    trained_on = (folder.status() or {}).get("fingerprint", {}).get("data_digest")
    if trained_on != task.card.digest:
        raise CheckpointError(
            f"{folder.path} was trained on other data (digest {trained_on}, {task.card.source} now has "
            f"{task.card.digest}); restore the data, or train again"
        )
