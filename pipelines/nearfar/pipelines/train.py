"""One run from start to one of its ends: validate, train, test, export, record."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from nearfar.config import RunConfig, config_hash, flatten, suggest
from nearfar.errors import ConfigError, DivergedError, NearfarError, OutOfMemoryError, StorageError
from nearfar.messages import warn
from nearfar.optional import installed, missing
from nearfar.pipelines.environment import describe_environment, git_state
from nearfar.pipelines.output import OutputFolder
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.registry import MethodEntry
from nearfar.runtime import Runtime, resolve_device
from nearfar.tracking import NullRun, Run, experiment_name, open_store, start_run
from nearfar.tracking.curves import Curves
from nearfar.tracking.run import Status
from nearfar.training import CheckpointStore, FitResult, Method, Task, fit

__all__ = ["Outcome", "prepare", "train"]


@dataclass(frozen=True)
class Outcome:
    """What a finished run reports, on the command line as one line of JSON."""

    run_id: str | None
    metrics: dict[str, float]
    output_dir: str

    def to_json(self) -> str:
        """``{"run_id": ..., "metrics": {...}, "output_dir": ...}``."""
        return json.dumps({"run_id": self.run_id, "metrics": self.metrics, "output_dir": self.output_dir})


def train(
    name: str,
    overrides: Sequence[str] = (),
    config_file: Path | None = None,
    *,
    parent_run_id: str | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train one method with one seed.

    Args:
        name: Registered method, such as ``recsys.mclrec``.
        overrides: ``a.b=c`` settings.
        config_file: YAML settings below the overrides.
        parent_run_id: MLflow run of the group this run belongs to.
        quiet: No progress output.

    Returns:
        Run id, metrics (``val/*`` at the best epoch, ``test/*``, ``perf/*``) and output folder.

    Raises:
        ConfigError: If a setting is wrong.
        DataError: If the data cannot be used.
        StorageError: If the store or the output folder cannot be written.
        DivergedError: If training stopped being finite.
        OutOfMemoryError: If a step does not fit.
    """
    entry, config, task = prepare(name, overrides, config_file)
    for message in task.card.warnings:
        warn(f"{task.card.name}: {message}")
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    runtime = Runtime.start(config.device)
    try:
        folder = OutputFolder.of(config, name, task.card.name)
        store = open_store(config.tracking.uri) if config.tracking.enabled and runtime.is_main else None
        if runtime.is_main:
            folder.prepare(config)
        run: Run = NullRun()
        if store is not None:
            run = start_run(
                store,
                experiment=experiment_name(task.domain, task.card.name),
                name=f"{name}-s{config.seed}",
                params=flatten(config),
                tags=_tags(entry, config, task, runtime),
                outbox=folder.outbox,
                warn=warn,
                parent_run_id=parent_run_id,
                flush_seconds=config.tracking.flush_seconds,
            )
        with _ends(run, folder, runtime):
            metrics = _work(entry, config, task, folder, runtime, run, quiet)
        return Outcome(run.run_id, metrics, str(folder.path))
    finally:
        runtime.close()


def prepare(
    name: str, overrides: Sequence[str] = (), config_file: Path | None = None
) -> tuple[MethodEntry, RunConfig, Task]:
    """Read settings and data, and refuse whatever can be refused before a run begins; writes nothing.

    Args:
        name: Registered method.
        overrides: ``a.b=c`` settings.
        config_file: YAML settings below the overrides.

    Raises:
        ConfigError: If a setting, the device or the method's name is wrong.
        DataError: If the data cannot be used.
    """
    entry = find(name)
    config = resolve_settings(entry, overrides, config_file)
    _check_packages(entry, config)
    resolve_device(config.device)
    task: Task = entry.load("task")(config, entry.load("method"))
    known = [f"val/{metric}" for metric in task.metrics]
    if config.selection.metric not in known:
        hint = suggest(config.selection.metric, known, f"choose from {', '.join(known)}")
        raise ConfigError(f"selection.metric: '{config.selection.metric}' is not measured; {hint}")
    return entry, config, task


def _work(
    entry: MethodEntry,
    config: RunConfig,
    task: Task,
    folder: OutputFolder,
    runtime: Runtime,
    run: Run,
    quiet: bool,
) -> dict[str, float]:
    """Everything between the start of a run and its end."""
    folder.environment_json.write_text(json.dumps(describe_environment(), indent=2), encoding="utf-8")
    run.dataset(task.card.name, task.card.digest, task.card.source)
    run.artifact(folder.config_yaml)
    run.artifact(folder.environment_json)
    curves = Curves()

    def log(metrics: dict[str, float], step: int) -> None:
        curves.add(metrics, step)
        run.log(metrics, step)

    method = task.build(config).to(runtime.device)
    result = fit(
        method,
        task.batches(config, runtime),
        config=config,
        runtime=runtime,
        log=log,  # type: ignore[arg-type]
        validate=lambda: {f"val/{k}": v for k, v in task.evaluate(method, "val").items()},
        store=CheckpointStore(folder.checkpoints, config.checkpoint.keep),
        fingerprint=fingerprint(entry, config, task, runtime),
        label=f"{entry.name} s{config.seed}",
        quiet=quiet or not runtime.is_main,
    )
    metrics = _final_metrics(task, method, result)
    log({name: value for name, value in metrics.items() if not name.startswith("val/")}, result.steps)
    if runtime.is_main:
        _export(entry, config, task, method, folder, run, curves)
    return metrics


def fingerprint(entry: MethodEntry, config: RunConfig, task: Task, runtime: Runtime) -> dict[str, str | int]:
    """What must be equal for a checkpoint to be continued."""
    return {
        "method": entry.name,
        "config_hash": config_hash(config),
        "data_digest": task.card.digest,
        "seed": config.seed,
        "world_size": runtime.world_size,
    }


def _final_metrics(task: Task, method: Method, result: FitResult) -> dict[str, float]:
    best = next(entry for entry in result.history if entry["step"] == result.best_step)
    metrics = {name: value for name, value in best.items() if name != "step"}
    metrics |= {f"test/{name}": value for name, value in task.evaluate(method, "test").items()}
    metrics |= {
        "perf/fit_seconds": result.seconds,
        "perf/epochs": float(result.epochs),
        "perf/peak_mem_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if result.steps:
        metrics["perf/steps_per_s"] = result.steps / result.seconds
    return metrics


def _export(
    entry: MethodEntry,
    config: RunConfig,
    task: Task,
    method: Method,
    folder: OutputFolder,
    run: Run,
    curves: Curves,
) -> None:
    task.export(method, folder.model)
    curves.write_csv(folder.curves_csv)
    run.artifact(folder.curves_csv, "curves")
    if installed("matplotlib"):
        title = f"{entry.name} on {task.card.name}, seed {config.seed}"
        curves.draw(folder.curves_png, title, config.selection.metric)
        if folder.curves_png.exists():
            run.artifact(folder.curves_png, "curves")
    arguments = task.log_model(folder.model) if run.run_id and config.tracking.log_model else None
    if arguments is not None:
        run.model(arguments)


def _check_packages(entry: MethodEntry, config: RunConfig) -> None:
    tracking = ("mlflow", "filelock") if config.tracking.enabled else ()
    for module in entry.requires:
        if not installed(module):
            raise missing(module, entry.name)
    for module in tracking:
        if not installed(module):
            raise missing(module, "tracking (tracking.enabled=false does without it)")


def _tags(entry: MethodEntry, config: RunConfig, task: Task, runtime: Runtime) -> dict[str, str]:
    return {
        "nearfar.kind": "train",
        "nearfar.method": entry.name,
        "nearfar.domain": entry.domain,
        "nearfar.dataset": task.card.name,
        "nearfar.dataset_digest": task.card.digest,
        "nearfar.seed": str(config.seed),
        "nearfar.config_hash": config_hash(config),
        "nearfar.device": str(runtime.device),
        "nearfar.torch": str(torch.__version__),
        "nearfar.threads": str(torch.get_num_threads()),
        "nearfar.host": socket.gethostname(),
        "nearfar.pid": str(os.getpid()),
        **{f"nearfar.data.{name}": str(count) for name, count in task.card.counts.items()},
        **git_state(),
    }


@contextmanager
def _ends(run: Run, folder: OutputFolder, runtime: Runtime) -> Iterator[None]:
    """Whatever happens inside, the run gets exactly one end, in the store and in ``run.json``."""

    def end(status: Status, state: str, reason: str | None = None) -> None:
        run.finish(status, f"{state}: {reason}" if reason else None)
        if runtime.is_main:
            folder.write_status(state, run_id=run.run_id, reason=reason)

    if runtime.is_main:
        folder.write_status("running", run_id=run.run_id)
    try:
        yield
    except DivergedError as error:
        end("FAILED", "diverged", str(error))
        raise
    except KeyboardInterrupt:
        end("KILLED", "preempted", "interrupted")
        raise
    except Exception as error:
        translated = _translate(error)
        end("FAILED", "failed", str(translated) or type(error).__name__)
        raise translated from error
    end("FINISHED", "done")


def _translate(error: Exception) -> Exception:
    """Errors of torch and the system as the errors that carry an exit code."""
    text = str(error)
    if isinstance(error, NearfarError):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        reason = text.splitlines()[0] if text else "out of memory"
        return OutOfMemoryError(
            f"a step does not fit in memory ({reason}); lower the batch size of the method, "
            "for recommenders targets_per_batch, max_length or contrast.rows"
        )
    if isinstance(error, OSError):
        return StorageError(f"{error.filename or 'a file'} cannot be written: {error.strerror or text}")
    return error
