"""One run from start to one of its ends: validate, train, test, export, record."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from nearfar.config import RunConfig, suggest
from nearfar.errors import CheckpointError, ConfigError, PreemptedError
from nearfar.interruption import Interruption
from nearfar.messages import warn
from nearfar.optional import installed, missing
from nearfar.pipelines.collapse import CollapseMonitor
from nearfar.pipelines.ends import one_end
from nearfar.pipelines.environment import describe_environment
from nearfar.pipelines.identity import fingerprint, run_params, run_tags
from nearfar.pipelines.output import OutputFolder
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.registry import MethodEntry
from nearfar.runtime import Runtime, resolve_device
from nearfar.tracking import NullRun, Run, Store, experiment_name, open_store, start_local_run, start_run
from nearfar.tracking.curves import Curves
from nearfar.training import CheckpointStore, FitResult, Method, OnValidation, Task, fit
from nearfar.training.checkpoint import check_same_run
from nearfar.training.guard import ignore

__all__ = ["Outcome", "Resume", "prepare", "train"]

Resume = Literal["no", "yes", "auto"]


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
    resume: Resume = "no",
    parent_run_id: str | None = None,
    run_name: str | None = None,
    kind: str = "train",
    quiet: bool = False,
    test: bool = True,
    on_validation: OnValidation = ignore,
) -> Outcome:
    """Train one method with one seed.

    Args:
        name: Registered method, such as ``recsys.mclrec``.
        overrides: ``a.b=c`` settings.
        config_file: YAML settings below the overrides.
        resume: ``yes`` goes on with the run in the output folder, ``auto`` does if there is one; a finished run
            answers at once.
        parent_run_id: MLflow run of the group this run belongs to.
        run_name: In MLflow; by default ``<method>-s<seed>``.
        kind: Tag ``nearfar.kind``.
        quiet: No progress output.
        test: Whether to measure ``test/*`` and export the model; trials of a search do not.
        on_validation: Given the ``val/*`` metrics and the epoch after each validation; may raise ``PrunedError``.

    Returns:
        Run id, metrics (``val/*`` at the best epoch, ``test/*``, ``perf/*``) and output folder.

    Raises:
        ConfigError: If a setting is wrong.
        DataError: If the data cannot be used.
        StorageError: If the store or the output folder cannot be written, or another process has the folder.
        CheckpointError: If there is nothing to resume, or another run.
        DivergedError: If training stopped being finite.
        OutOfMemoryError: If a step does not fit.
        PreemptedError: If a signal asked the process to stop; everything is saved.
        PrunedError: If ``on_validation`` raised it.
    """
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        entry, config, task = prepare(name, overrides, config_file)
        for message in task.card.warnings:
            warn(f"{task.card.name}: {message}")
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        runtime = Runtime.start(config.device, deterministic=config.deterministic)
        stack.callback(runtime.close)
        folder = OutputFolder.of(config, name, task.card.name, task.kept_files)
        identity = fingerprint(entry, config, task, runtime)
        run: Run = NullRun()
        done, going_on = None, False
        if runtime.is_main:
            store = open_store(config.tracking.uri) if config.tracking.enabled else None
            going_on = _goes_on(folder, resume, identity)
            stack.enter_context(folder.claim())
            done = _finished(folder, test) if going_on else None
            if done is None:
                folder.prepare(config, keep=going_on)
                run = _begin(
                    store,
                    folder,
                    warn=warn,
                    experiment=experiment_name(task.domain, task.card.name),
                    name=run_name or f"{name}-s{config.seed}",
                    params=run_params(config, task),
                    tags=run_tags(entry, config, task, runtime, kind=kind, folder=folder.path),
                    resume=going_on,
                    parent_run_id=parent_run_id,
                    flush_seconds=config.tracking.flush_seconds,
                )
                folder.write_status(
                    "running",
                    run_id=run.run_id,
                    fingerprint=identity,
                    parent_run_id=parent_run_id,
                    reason=None,
                )
        done, going_on = runtime.share((done, going_on))
        if done is not None:
            if runtime.is_main:
                warn(f"{folder.path} holds the finished run; nothing to do")
            return done
        work = _Work(
            entry,
            config,
            task,
            folder,
            runtime,
            run,
            identity,
            interruption,
            going_on,
            quiet,
            test,
            on_validation,
        )
        if not runtime.is_main:
            work.metrics()
            return runtime.share(Outcome(None, {}, str(folder.path)))
        with one_end(run, folder):
            metrics = work.metrics()
            run.finish("FINISHED")
            folder.write_status("done", run_id=run.run_id, metrics=metrics, tested=test)
        return runtime.share(Outcome(run.run_id, metrics, str(folder.path)))


def _begin(
    store: Store | None, folder: OutputFolder, *, parent_run_id: str | None, flush_seconds: float, **run: Any
) -> Run:
    if store is None:
        return start_local_run(outbox=folder.outbox, **run)
    return start_run(
        store, outbox=folder.outbox, parent_run_id=parent_run_id, flush_seconds=flush_seconds, **run
    )


def _goes_on(folder: OutputFolder, resume: Resume, identity: Mapping[str, str | int]) -> bool:
    """Whether a run in the folder is continued.

    Raises:
        CheckpointError: If it should be and there is none, or it is another one.
    """
    if resume == "no":
        return False
    status = folder.status()
    if status is None:
        if resume == "auto":
            return False
        raise CheckpointError(
            f"there is nothing to resume in {folder.path}; start without --resume, or name the folder of the "
            "interrupted run with output_dir"
        )
    check_same_run(status.get("fingerprint", {}), identity, str(folder.path))
    return True


def _finished(folder: OutputFolder, test: bool) -> Outcome | None:
    """The result of a run that is already done."""
    status = folder.status() or {}
    if status.get("status") != "done" or (test and not status.get("tested")):
        return None
    return Outcome(status["run_id"], status["metrics"], str(folder.path))


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


@dataclass(frozen=True)
class _Work:
    """Everything between the start of a run and its end."""

    entry: MethodEntry
    config: RunConfig
    task: Task
    folder: OutputFolder
    runtime: Runtime
    run: Run
    identity: Mapping[str, str | int]
    interruption: Interruption
    resume: bool
    quiet: bool
    test: bool
    on_validation: OnValidation

    def metrics(self) -> dict[str, float]:
        """Train, measure, export."""
        task, config, run = self.task, self.config, self.run
        if self.runtime.is_main:
            text = json.dumps(describe_environment(), indent=2)
            self.folder.environment_json.write_text(text, encoding="utf-8")
            run.dataset(task.card.name, task.card.digest, task.card.source)
            run.artifact(self.folder.config_yaml)
            run.artifact(self.folder.environment_json)
        method = task.build(config).to(self.runtime.device)
        monitor = CollapseMonitor(task, run)
        result = fit(
            method,
            task.batches(config, self.runtime),
            config=config,
            runtime=self.runtime,
            log=run.log,
            validate=lambda: {
                **{f"val/{name}": value for name, value in task.evaluate(method, "val").items()},
                **monitor.measure(method),
            },
            on_validation=self.on_validation,
            store=CheckpointStore(self.folder.checkpoints, config.checkpoint.keep),
            fingerprint=self.identity,
            resume=self.resume,
            stop=lambda: self.interruption.reason,
            before_save=run.persist,
            label=f"{self.entry.name} s{config.seed}",
            quiet=self.quiet or not self.runtime.is_main,
        )
        if not self.runtime.is_main:
            return {}
        metrics = self._final(method, result)
        run.log({name: v for name, v in metrics.items() if name.startswith(("test/", "perf/"))}, result.steps)
        self._export(method)
        return metrics

    def _final(self, method: Method, result: FitResult) -> dict[str, float]:
        if self.interruption.reason is not None:
            raise PreemptedError(
                f"stopped between training and testing ({self.interruption.reason}); "
                "the same command with --resume goes on from there"
            )
        best = next(entry for entry in result.history if entry["step"] == result.best_step)
        metrics = {name: value for name, value in best.items() if name.startswith("val/")}
        if self.test:
            metrics |= {f"test/{name}": v for name, v in self.task.test(method, self.folder.path).items()}
        metrics |= {
            "perf/fit_seconds": result.seconds,
            "perf/epochs": float(result.epochs),
            "perf/peak_mem_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        if result.steps:
            metrics["perf/steps_per_s"] = result.steps / result.seconds
        return metrics

    def _export(self, method: Method) -> None:
        folder, run = self.folder, self.run
        if self.test:
            self.task.export(method, folder.model)
            for path in (folder.path / name for name in self.task.kept_files):
                if path.exists():
                    run.artifact(path)
        curves = Curves.read(folder.outbox)
        curves.write_csv(folder.curves_csv)
        run.artifact(folder.curves_csv, "curves")
        if self.config.tracking.draws:
            title = f"{self.entry.name} on {self.task.card.name}, seed {self.config.seed}"
            curves.draw(folder.curves_png, title, self.config.selection.metric)
            if folder.curves_png.exists():
                run.artifact(folder.curves_png, "curves")
        if self.test and self.config.tracking.enabled and self.config.tracking.log_model:
            arguments = self.task.log_model(folder.model)
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
