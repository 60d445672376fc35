"""Finished training runs out of the tracking store: by experiment, by run id, by output folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfar.config import environment_layer, suggest
from nearfar.errors import ConfigError, StorageError, first_line
from nearfar.tracking import Store, default_uri, open_store

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_EPOCHS_SET = re.compile(r"(^|, )epochs=")
_PARENT = "mlflow.parentRunId"
_PAGE = 1000
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Record:
    """One finished training run.

    Attributes:
        run_id: In the store.
        experiment: Name of its experiment.
        method: Such as ``recsys.sasrec``.
        variant: Settings that differ from the method's own, or ``default``.
        config_hash: Of all settings but the seed.
        seed: Its seed.
        dataset: Name of the data.
        digest: Of the data's content.
        commit: Of the code; empty when unknown.
        started: Start, milliseconds since 1970.
        metrics: The newest value of each.
        selection: Metric that picked the best epoch, and ``max`` or ``min``.
        fixed: Whether there was nothing to train, so that the seed decides nothing.
    """

    run_id: str
    experiment: str
    method: str
    variant: str
    config_hash: str
    seed: int
    dataset: str
    digest: str
    commit: str
    started: int
    metrics: Mapping[str, float]
    selection: tuple[str, str]
    fixed: bool


@dataclass(frozen=True)
class Pool:
    """The finished training runs of one experiment, and what was left out."""

    experiment: str
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()


def open_recorded(uri: str | None = None) -> Store:
    """Open a store to read from it: where runs are recorded by default, but never a new one.

    Args:
        uri: Of the store; ``None`` takes ``NEARFAR_TRACKING__URI``, else what runs take.

    Raises:
        ConfigError: If there is none yet.
        StorageError: If it cannot be used.
    """
    uri = uri or environment_layer().values.get("tracking", {}).get("uri") or default_uri()
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise ConfigError(f"nothing is recorded in {uri} yet; train something, or name the store by --uri")
    return open_store(uri)


def read_records(store: Store, targets: Sequence[str]) -> list[Pool]:
    """Finished training runs behind ``targets``, one pool per experiment, in the order they were named.

    Runs that belong to a trial of a search are left out; groups and searches stand for their members.

    Args:
        store: Opened store.
        targets: Experiment names (``nearfar/`` in front may be left off), run ids, or output folders of runs.

    Raises:
        ConfigError: If a target is unknown or nothing behind the targets has finished.
        StorageError: If the store does not answer.
    """
    try:
        reader = _Reader(store)
        found: dict[str, Any] = {}
        for target in targets:
            found |= {run.info.run_id: run for run in reader.resolve(target)}
        pools: dict[str, list[Any]] = {}
        for run in found.values():
            pools.setdefault(reader.experiment(run.info.experiment_id), []).append(run)
    except ConfigError:
        raise
    except Exception as error:
        raise StorageError(f"the tracking store {store.uri} cannot be read: {first_line(error)}") from error
    if not pools:
        raise ConfigError(f"no training runs in {', '.join(targets)}")
    return [_pool(name, runs) for name, runs in pools.items()]


def read_history(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """All values of a metric in the order of their steps; of several at one step, the newest.

    Args:
        store: Opened store.
        run_id: The run.
        metric: Name of the metric.
    """
    points = store.client.get_metric_history(run_id, metric)
    newest = {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}
    return sorted(newest.items())


def _pool(experiment: str, runs: Sequence[Any]) -> Pool:
    unfinished = Counter(run.info.status.lower() for run in runs if run.info.status != "FINISHED")
    counts = ", ".join(f"{count} {status}" for status, count in sorted(unfinished.items()))
    finished = [run for run in runs if run.info.status == "FINISHED"]
    if not finished:
        raise ConfigError(f"{experiment}: no run has finished ({counts})")
    notes = (f"left out because they have not finished: {counts}",) if counts else ()
    return Pool(experiment, tuple(_record(experiment, run) for run in finished), notes)


def _record(experiment: str, run: Any) -> Record:
    tags, params, metrics = run.data.tags, run.data.params, dict(run.data.metrics)
    variant = tags.get("nearfar.variant", "default")
    # It took no step though nobody told it to take none: there was nothing to train.
    fixed = metrics.get("perf/epochs") == 0 and not _EPOCHS_SET.search(variant)
    return Record(
        run_id=run.info.run_id,
        experiment=experiment,
        method=tags.get("nearfar.method", run.info.run_name),
        variant=variant,
        config_hash=tags.get("nearfar.config_hash", ""),
        seed=int(tags.get("nearfar.seed", params.get("seed", 0))),
        dataset=tags.get("nearfar.dataset", ""),
        digest=tags.get("nearfar.dataset_digest", ""),
        commit=tags.get("nearfar.git_commit", ""),
        started=run.info.start_time,
        metrics=metrics,
        selection=(params.get("selection.metric", ""), params.get("selection.mode", "max")),
        fixed=fixed,
    )


class _Reader:
    """Looks targets up; remembers experiments and parents it has seen."""

    def __init__(self, store: Store) -> None:
        self._store, self._client = store, store.client
        self._experiments: dict[str, str] = {}
        self._kinds: dict[str, str] = {}

    def experiment(self, number: str) -> str:
        if number not in self._experiments:
            self._experiments[number] = self._client.get_experiment(number).name
        return self._experiments[number]

    def resolve(self, target: str) -> Iterable[Any]:
        """The training runs a target stands for."""
        for name in (target, f"nearfar/{target}"):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is not None and experiment.lifecycle_stage == "active":
                return self._outside_trials(
                    self._search(experiment.experiment_id, "tags.`nearfar.kind` = 'train'")
                )
        if _RUN_ID.fullmatch(target):
            return self._members(self._run(target))
        folder = Path(target).expanduser()
        if folder.is_dir():
            return [run for run_id in _run_ids(folder) for run in self._members(self._run(run_id))]
        raise self._unknown(target)

    def _run(self, run_id: str) -> Any:
        try:
            run = self._client.get_run(run_id)
        except Exception as error:
            raise ConfigError(f"no run {run_id} in {self._store.uri}: {first_line(error)}") from None
        if run.info.lifecycle_stage != "active":
            raise ConfigError(f"run {run_id} ({run.info.run_name}) is deleted")
        return run

    def _members(self, run: Any) -> list[Any]:
        """The run itself, or the training runs below a group or a search."""
        kind = run.data.tags.get("nearfar.kind")
        if kind == "train":
            return [run]
        if kind not in ("group", "hpo"):
            name, what = run.info.run_name, f"of kind {kind}" if kind else "not one of nearfar's"
            raise ConfigError(f"run {run.info.run_id} ({name}) is {what}; only training runs are compared")
        below = self._search(run.info.experiment_id, f"tags.`{_PARENT}` = '{run.info.run_id}'")
        members: list[Any] = []
        for child in below:
            kind = child.data.tags.get("nearfar.kind")
            members += self._members(child) if kind in ("train", "group") else []
        return members

    def _search(self, experiment_id: str, condition: str) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = self._client.search_runs([experiment_id], condition, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _outside_trials(self, runs: Iterable[Any]) -> list[Any]:
        return [run for run in runs if self._kind(run.data.tags.get(_PARENT)) != "trial"]

    def _kind(self, run_id: str | None) -> str | None:
        if run_id is None:
            return None
        if run_id not in self._kinds:
            try:
                self._kinds[run_id] = self._client.get_run(run_id).data.tags.get("nearfar.kind", "")
            except Exception:  # a parent may have been deleted for good
                self._kinds[run_id] = ""
        return self._kinds[run_id]

    def _unknown(self, target: str) -> ConfigError:
        names = [experiment.name for experiment in self._client.search_experiments()]
        known = sorted(name for name in names if name.startswith("nearfar/"))
        among = (
            f"{self._store.uri} has {', '.join(known)}"
            if known
            else f"{self._store.uri} has none of nearfar's"
        )
        hint = suggest(target, known, among)
        return ConfigError(f"unknown experiment '{target}' (nor is it a run id or an output folder); {hint}")


def _run_ids(folder: Path) -> list[str]:
    """Run ids of an output folder, or of the output folders right below it."""
    files = [folder / "run.json"] if (folder / "run.json").exists() else sorted(folder.glob("*/run.json"))
    if not files:
        raise ConfigError(f"{folder} is no output folder: it has no run.json, nor has any folder in it")
    ids = []
    for file in files:
        try:
            run_id = json.loads(file.read_text("utf-8")).get("run_id")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigError(f"{file} cannot be read: {first_line(error)}") from None
        if run_id is not None and not (isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)):
            raise ConfigError(f"{file} is damaged: run_id is {str(run_id)[:40]!r}; name the run by its id")
        if not run_id:
            raise ConfigError(
                f"{file.parent} is in no tracking store (tracking.enabled=false, or not yet sent)"
            )
        ids.append(run_id)
    return ids
