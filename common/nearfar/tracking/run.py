"""One run in the store: what the loop and the pipelines say to it, and a stand-in that records nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from nearfar.errors import StorageError, first_line
from nearfar.optional import require
from nearfar.tracking.names import check_metric_names
from nearfar.tracking.sender import MetricSender, Value
from nearfar.tracking.store import URI_VARIABLE, Store

Status = Literal["FINISHED", "FAILED", "KILLED"]
LONGEST_PARAM = 6000


class Run(Protocol):
    """What a pipeline needs from a run."""

    run_id: str | None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue metric values; returns at once."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Record which data, by content digest."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or every file of a folder."""

    def model(self, arguments: Mapping[str, Any]) -> None:
        """Store a pyfunc model."""

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Deliver what is queued and end the run."""


class NullRun:
    """Records nothing (``tracking.enabled=false``, and every process but the first)."""

    run_id: str | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def tag(self, tags: Mapping[str, str]) -> None: ...
    def dataset(self, name: str, digest: str, source: str) -> None: ...
    def artifact(self, path: Path, folder: str | None = None) -> None: ...
    def model(self, arguments: Mapping[str, Any]) -> None: ...
    def finish(self, status: Status, reason: str | None = None) -> None: ...


class TrackedRun:
    """A run in an MLflow store, addressed by id: it never touches MLflow's active-run stack.

    Training outlives the tracker: a failing call is reported through ``warn`` and the run goes on.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        outbox: Path,
        warn: Callable[[str], None],
        flush_seconds: float = 2.0,
    ) -> None:
        self.run_id: str | None = run_id
        self._store, self._id, self._warn = store, run_id, warn
        self._metric = require("mlflow.entities", "tracking runs").Metric
        self._sender = MetricSender(self._send, outbox, warn, flush_seconds)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Queue finite values; MLflow would store infinity as 1.8e308 and ruin the chart."""
        check_metric_names(metrics)
        now = int(time.time() * 1000)
        for key, value in metrics.items():
            if math.isfinite(value):
                self._sender.put(Value(key, float(value), now, step))

    def _send(self, values: Sequence[Value]) -> None:
        metrics = [self._metric(v.key, v.value, v.timestamp, v.step) for v in values]
        self._store.client.log_batch(self._id, metrics=metrics)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self._try("tags", self._store.client.set_tag, self._id, key, value)

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Record name and digest as a run input (digests longer than MLflow's 36 characters are cut)."""
        meta = require("mlflow.data.meta_dataset", "tracking runs").MetaDataset
        sources = require("mlflow.data.code_dataset_source", "tracking runs")
        entities = require("mlflow.entities", "tracking runs")
        data = meta(sources.CodeDatasetSource({"mlflow.source.name": source}), name=name, digest=digest[:36])
        tag = entities.InputTag("mlflow.data.context", "train")
        entry = entities.DatasetInput(dataset=data._to_mlflow_entity(), tags=[tag])
        self._try("the data set", self._store.client.log_inputs, self._id, datasets=[entry])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or every file of a folder."""
        call = self._store.client.log_artifacts if path.is_dir() else self._store.client.log_artifact
        self._try(f"artifact {path.name}", call, self._id, str(path), folder)

    def model(self, arguments: Mapping[str, Any]) -> None:
        """Store a pyfunc model under this run."""

        def store_model() -> None:
            mlflow = require("mlflow", "tracking runs")
            require("mlflow.pyfunc", "tracking runs")
            before = os.environ.get(URI_VARIABLE)
            mlflow.set_tracking_uri(self._store.uri)
            try:
                with mlflow.start_run(run_id=self._id):
                    mlflow.pyfunc.log_model(**arguments)
            finally:
                # Setting it also sets the variable, which the next run would take for the user's wish.
                mlflow.set_tracking_uri(None)
                if before is not None:
                    os.environ[URI_VARIABLE] = before

        self._try("the model", store_model)

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Deliver what is queued (30 s at most) and end the run."""
        self._sender.close()
        if reason:
            self.tag({"nearfar.status_reason": reason[:LONGEST_PARAM]})
        self._try("the end of the run", self._store.client.set_terminated, self._id, status)

    def _try(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:
            self._warn(f"{what} could not be recorded: {first_line(error)}")


def start_run(
    store: Store,
    *,
    experiment: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    outbox: Path,
    warn: Callable[[str], None],
    parent_run_id: str | None = None,
    flush_seconds: float = 2.0,
) -> TrackedRun:
    """Create a run with its parameters and tags.

    Args:
        store: Opened store.
        experiment: Experiment name; created when new.
        name: Run name.
        params: Flat parameters; values longer than 6,000 characters are cut as MLflow would.
        tags: Tags.
        outbox: File for values that cannot be delivered.
        warn: Told about tracker trouble.
        parent_run_id: Group run this one belongs to.
        flush_seconds: Longest time a metric value waits.

    Raises:
        StorageError: If the run cannot be created: better known now than after training.
    """
    entities = require("mlflow.entities", "tracking runs")
    parent = {"mlflow.parentRunId": parent_run_id} if parent_run_id else {}
    try:
        run = store.client.create_run(store.experiment(experiment), run_name=name, tags={**tags, **parent})
        entries = [entities.Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items()]
        store.client.log_batch(run.info.run_id, params=entries)
    except Exception as error:
        raise StorageError(f"cannot create a run in {store.uri}: {first_line(error)}") from error
    return TrackedRun(store, run.info.run_id, outbox, warn, flush_seconds)
