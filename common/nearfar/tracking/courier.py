"""Carries the operations of a journal into the store, each of them as often as it takes and once in effect.

Every operation may be repeated: a metric value keeps the timestamp it was logged with and is one row; a run
is found again by the unique id in its tags; start and end times come from the journal; a model is looked for
before it is stored. So whatever dies between doing and remembering is simply done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from nearfar.atomic import write_atomically
from nearfar.errors import StorageError, first_line
from nearfar.optional import require
from nearfar.redaction import redacted
from nearfar.tracking.journal import Operation, header, operations
from nearfar.tracking.served import store_model
from nearfar.tracking.store import Store

BATCH_SIZE = 500
MOST_PARAMS = 100  # that MLflow takes at a time
RUN_TAG = "nearfar.run"
PARENT_TAG = "nearfar.parent"
REASON_TAG = "nearfar.status_reason"
MLFLOW_PARENT_TAG = "mlflow.parentRunId"
UNSENT_PARENT = "nearfar:"  # in front of the unique id of a parent whose run id is not known yet

# Answers that will be the same next time; everything else may be an outage.
_FINAL = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}
TRIES = 3


class Courier:
    """Delivers one journal, from where the last delivery stopped.

    Args:
        store: Where to. Another one than last time gets the journal from its first line.
        path: The journal; how far it is delivered is kept beside it, in ``<name>.sent``.
        warn: Told what is given up: files that are gone, values the store refuses.
    """

    def __init__(self, store: Store, path: Path, warn: Callable[[str], None]) -> None:
        self._store, self._path, self._warn = store, path, warn
        self._sent_path = path.with_suffix(".sent")
        self.run_id, self.offset = _read_sent(self._sent_path, redacted(store.uri))
        self.offset = min(self.offset, path.stat().st_size) if path.exists() else 0
        self._failures = 0
        self._said: set[str] = set()

    def deliver(self, until: int | None = None, stop: Callable[[], bool] = lambda: False) -> int:
        """Send everything up to ``until``.

        Args:
            until: Offset in the journal; ``None`` means its end.
            stop: Asked between two calls of the store; true ends the delivery early.

        Returns:
            How many operations were sent.

        Raises:
            Exception: Whatever the client raises while the store is away; what was sent stays sent.
        """
        sent = 0
        for batch, behind in _batches(operations(self._path, self.offset, until)):
            if stop():
                break
            if batch[0]["op"] == "metrics":
                self._attempt(batch[0], partial(self._log_metrics, batch))
            else:
                self.apply(batch[0])
            sent += len(batch)
            self.remember(behind)
        return sent

    def left(self) -> int:
        """Operations that have not been sent."""
        return sum(1 for _ in operations(self._path, self.offset))

    def apply(self, operation: Operation) -> None:
        """Send one operation.

        Args:
            operation: Any line of a journal.
        """
        what = operation["op"]
        if what == "metrics":
            self._attempt(operation, lambda: self._log_metrics([operation]))
        elif what == "damaged":
            self._say(f"a line of {self._path} is damaged; it was left out")
        else:
            call: Callable[[Operation], None] = getattr(self, f"_{what}", self._unknown)
            self._attempt(operation, lambda: call(operation))

    def _attempt(self, operation: Operation, call: Callable[[], None]) -> None:
        """Try it; give it up when the store is there and says no."""
        if self.run_id is None and operation["op"] != "create":
            raise StorageError(f"{self._path} does not begin with the creation of a run")
        try:
            call()
        except Exception as error:
            if not self._hopeless(operation, error):
                raise
            self._say(f"{_label(operation)} could not be recorded: {first_line(error)}")
        self._failures = 0

    def _own(self, name: str) -> Path:
        """A file or folder of the run; a journal that somebody else wrote does not get at others.

        Raises:
            FileNotFoundError: If it lies elsewhere, or has a link to elsewhere in it, or is gone.
        """
        folder = self._path.parent.resolve()
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is gone")
        for found in (path, *(path.rglob("*") if path.is_dir() else ())):
            if not found.resolve().is_relative_to(folder):
                raise FileNotFoundError(
                    f"{found} lies outside {folder}, the folder of the run; move it there"
                )
        return path

    def _hopeless(self, operation: Operation, error: Exception) -> bool:
        what, code = operation["op"], getattr(error, "error_code", None)
        if what == "create":
            return False
        if code in _FINAL or isinstance(error, FileNotFoundError):
            return True
        if what not in ("artifact", "model"):
            return False
        # Files and models fail for reasons of their own: it is no outage when the store answers otherwise.
        self._failures += 1
        tries = TRIES if code is not None or isinstance(error, OSError) else 1
        return self._failures >= tries and self._answers()

    def _answers(self) -> bool:
        try:
            self._store.client.get_run(self.run_id)
        except Exception:
            return False
        return True

    def restart(self) -> None:
        """Forget what was sent: the store does not know the run."""
        self.run_id, self.offset = None, 0

    def _say(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self._warn(message)

    def remember(self, offset: int) -> None:
        """Everything before ``offset`` is in the store.

        Args:
            offset: In the journal.
        """
        self.offset = offset
        record = {"uri": redacted(self._store.uri), "run_id": self.run_id, "offset": offset}
        try:
            write_atomically(self._sent_path, json.dumps(record))
        except OSError as error:  # then it is sent again one day, which changes nothing
            self._say(f"{self._sent_path} cannot be written ({error.strerror})")

    # One method for each kind of operation, named after it.

    def _create(self, operation: Operation) -> None:
        client, entities = self._store.client, require("mlflow.entities", "tracking runs")
        experiment = self._store.experiment(operation["experiment"])
        found = self._tagged(experiment, RUN_TAG, operation["id"])
        if found:
            self.run_id = found[0]
        else:
            run = client.create_run(
                experiment,
                run_name=operation["name"],
                start_time=operation["time"],
                tags={**operation["tags"], RUN_TAG: operation["id"], **self._parent(experiment, operation)},
            )
            self.run_id = str(run.info.run_id)
        params = [entities.Param(key, value) for key, value in operation["params"].items()]
        for start in range(0, len(params), MOST_PARAMS):
            client.log_batch(self.run_id, params=params[start : start + MOST_PARAMS])
        # Members that were recorded before their group was.
        for child in self._tagged(experiment, PARENT_TAG, operation["id"]):
            client.set_tag(child, MLFLOW_PARENT_TAG, self.run_id)

    def _parent(self, experiment: str, operation: Operation) -> dict[str, str]:
        parent = operation["parent"]
        if parent is None:
            return {}
        if not parent.startswith(UNSENT_PARENT):
            return {MLFLOW_PARENT_TAG: parent}
        unique = parent.removeprefix(UNSENT_PARENT)
        found = self._tagged(experiment, RUN_TAG, unique)
        return {PARENT_TAG: unique} | ({MLFLOW_PARENT_TAG: found[0]} if found else {})

    def _tagged(self, experiment: str, tag: str, value: str) -> list[str]:
        runs = self._store.client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'")
        return [str(run.info.run_id) for run in runs]

    def _log_metrics(self, batch: list[Operation]) -> None:
        metric = require("mlflow.entities", "tracking runs").Metric
        metrics = [
            metric(key, value, entry["time"], entry["step"])
            for entry in batch
            for key, value in entry["values"].items()
        ]
        for start in range(0, len(metrics), BATCH_SIZE):
            self._store.client.log_batch(self.run_id, metrics=metrics[start : start + BATCH_SIZE])

    def _tag(self, operation: Operation) -> None:
        tag = require("mlflow.entities", "tracking runs").RunTag
        self._store.client.log_batch(self.run_id, tags=[tag(*pair) for pair in operation["tags"].items()])

    def _dataset(self, operation: Operation) -> None:
        """Name and digest as a run input (digests longer than MLflow's 36 characters are cut)."""
        meta = require("mlflow.data.meta_dataset", "tracking runs").MetaDataset
        sources = require("mlflow.data.code_dataset_source", "tracking runs")
        entities = require("mlflow.entities", "tracking runs")
        source = sources.CodeDatasetSource({"mlflow.source.name": operation["source"]})
        data = meta(source, name=operation["name"], digest=operation["digest"][:36])
        tag = entities.InputTag("mlflow.data.context", "train")
        entry = entities.DatasetInput(dataset=data._to_mlflow_entity(), tags=[tag])
        try:
            self._store.client.log_inputs(self.run_id, datasets=[entry])
        except Exception as error:
            if getattr(error, "error_code", None) not in _FINAL:
                raise
            # Another run has recorded the same data in the same moment; now they are found.
            self._store.client.log_inputs(self.run_id, datasets=[entry])

    def _artifact(self, operation: Operation) -> None:
        path = self._own(operation["path"])
        folder = operation["folder"]
        if folder is not None and (folder.startswith("/") or ".." in folder.split("/")):
            raise FileNotFoundError(f"'{folder}' is no folder among the run's artifacts")
        call = self._store.client.log_artifacts if path.is_dir() else self._store.client.log_artifact
        call(self.run_id, str(path), folder)

    def _model(self, operation: Operation) -> None:
        params = (header(self._path) or {"params": {}})["params"]
        assert self.run_id is not None
        store_model(self._store, self.run_id, operation["builder"], self._own(operation["folder"]), params)

    def _resume(self, operation: Operation) -> None:
        client = self._store.client
        client.update_run(self.run_id, status="RUNNING")
        self._reason(None)
        self._tag({"tags": {**operation["tags"], "nearfar.resumed": str(operation["count"])}})

    def _end(self, operation: Operation) -> None:
        self._reason(operation["reason"])
        self._store.client.set_terminated(self.run_id, operation["status"], operation["time"])

    def _reason(self, reason: str | None) -> None:
        """Set it, or take away that of an earlier end."""
        client = self._store.client
        if reason is not None:
            client.set_tag(self.run_id, REASON_TAG, reason)
        elif REASON_TAG in client.get_run(self.run_id).data.tags:
            client.delete_tag(self.run_id, REASON_TAG)

    def _unknown(self, operation: Operation) -> None:
        self._say(
            f"{self._path} holds '{operation['op']}', which this version does not know; it was left out"
        )


def _batches(stream: Iterable[tuple[Operation, int]]) -> Iterator[tuple[list[Operation], int]]:
    """Metrics that follow each other together, up to some 500 values; all else alone."""
    batch: list[Operation] = []
    values = end = 0
    for operation, behind in stream:
        is_metrics = operation["op"] == "metrics"
        if batch and (not is_metrics or values + len(operation["values"]) > BATCH_SIZE):
            yield batch, end
            batch, values = [], 0
        end = behind
        if is_metrics:
            batch.append(operation)
            values += len(operation["values"])
        else:
            yield [operation], end
    if batch:
        yield batch, end


def _label(operation: Operation) -> str:
    what: str = operation["op"]
    if what in ("artifact", "model"):
        return f"{what} {Path(operation['path' if what == 'artifact' else 'folder']).name}"
    return {"metrics": "metric values", "tag": "tags", "dataset": "the data set"}.get(what, f"the {what}")


def _read_sent(path: Path, uri: str) -> tuple[str | None, int]:
    """Run id and offset; the beginning when nothing is known, or about another store."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        run_id, offset = record["run_id"], int(record["offset"])
        if record["uri"] == uri and isinstance(run_id, str | None) and offset >= 0:
            return run_id, offset
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pass
    return None, 0
