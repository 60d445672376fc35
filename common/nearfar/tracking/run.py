"""One run: what the loop and the pipelines say to it goes into its journal, and from there to the store."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from nearfar.errors import StorageError, first_line
from nearfar.redaction import redacted, redacted_values
from nearfar.tracking.courier import UNSENT_PARENT, Courier
from nearfar.tracking.delivery import Delivery
from nearfar.tracking.journal import Journal, Operation, header, operations
from nearfar.tracking.names import check_metric_names
from nearfar.tracking.store import Store
from nearfar.tracking.system import PREFIX, SystemSampler

Status = Literal["FINISHED", "FAILED", "KILLED"]
LONGEST_PARAM = 6000
MOST_BEHIND = 1 << 20  # bytes of the journal, some 10,000 lines


class Run(Protocol):
    """What a pipeline needs from a run; nothing here waits for a store, and no trouble of one gets out."""

    @property
    def run_id(self) -> str | None:
        """Id in the store; ``None`` until it has answered."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record finite metric values."""

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Record which data, by content digest."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or every file of a folder, as it is when it is delivered."""

    def model(self, arguments: Mapping[str, Any]) -> None:
        """Store a pyfunc model: ``builder`` and ``folder`` as :meth:`nearfar.training.Task.log_model` gives them."""

    def persist(self) -> None:
        """Have on disk what was said so far; for whoever is about to commit a checkpoint."""

    def finish(self, status: Status, reason: str | None = None) -> None:
        """End the run; only the first end counts."""


class NullRun:
    """Records nothing: every process but the first."""

    run_id: str | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def tag(self, tags: Mapping[str, str]) -> None: ...
    def dataset(self, name: str, digest: str, source: str) -> None: ...
    def artifact(self, path: Path, folder: str | None = None) -> None: ...
    def model(self, arguments: Mapping[str, Any]) -> None: ...
    def persist(self) -> None: ...
    def finish(self, status: Status, reason: str | None = None) -> None: ...


@dataclass(frozen=True)
class _Opened:
    """A journal ready to be written, and what it already holds."""

    journal: Journal
    created: Operation
    known: Mapping[str, set[int]] = field(default_factory=dict)
    resumed: bool = False


class LocalRun:
    """A run with a journal and no store (``tracking.enabled=false``); ``nearfar sync --to`` can send it later.

    Args:
        opened: From :func:`start_run` or :func:`start_local_run`.
    """

    def __init__(self, opened: _Opened) -> None:
        self._journal, self._known = opened.journal, opened.known
        self._checked: set[str] = set()
        self._ended = False

    @property
    def run_id(self) -> str | None:
        """A local run has none."""
        return None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record finite values; a resumed run drops those it has, since it computes the same bits again.

        Args:
            metrics: Values by name. MLflow would store infinity as 1.8e308 and ruin the chart.
            step: The x axis.

        Raises:
            ValueError: If MLflow would refuse a name.
        """
        if not self._checked.issuperset(metrics):
            check_metric_names(metrics)
            self._checked.update(metrics)
        values = {
            key: float(value)
            for key, value in metrics.items()
            if math.isfinite(value) and step not in self._known.get(key, ())
        }
        if values:
            self._journal.append({"op": "metrics", "step": int(step), "time": _now(), "values": values})

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        texts = {key: redacted(str(value)) for key, value in tags.items()}
        self._journal.append({"op": "tag", "tags": texts})

    def dataset(self, name: str, digest: str, source: str) -> None:
        """Record name and digest as a run input."""
        told = {"name": name, "digest": digest, "source": source}
        self._journal.append({"op": "dataset", **redacted_values(told)})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or every file of a folder; it lies in the folder of the journal, or is left out."""
        self._journal.append({"op": "artifact", "path": self._place(path), "folder": folder})

    def model(self, arguments: Mapping[str, Any]) -> None:
        """Store a pyfunc model.

        Args:
            arguments: ``folder``, and ``builder``: a ``module:function`` that makes of the folder, when the
                model is delivered, the ``name`` and what else ``mlflow.pyfunc.save_model`` wants.

        Raises:
            ValueError: If it holds anything else.
        """
        if set(arguments) != {"builder", "folder"}:
            raise ValueError(f"arguments: {sorted(arguments)} given, expected 'builder' and 'folder'")
        folder = self._place(Path(arguments["folder"]))
        self._journal.append({"op": "model", "builder": str(arguments["builder"]), "folder": folder})

    def persist(self) -> None:
        """Flush the journal to the disk."""
        self._journal.persist()

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Write the end; only the first counts.

        Args:
            status: How MLflow calls it.
            reason: Why it did not go well.
        """
        if not self._ended:
            self._ended = True
            self._end(status, redacted(reason) if reason else None)

    def _end(self, status: Status, reason: str | None) -> None:
        short = reason[:LONGEST_PARAM] if reason else None
        self._journal.append({"op": "end", "status": status, "time": _now(), "reason": short})
        self._journal.persist()
        self._journal.close()

    def _place(self, path: Path) -> str:
        """Relative inside the run's own folder, which may be moved before it is delivered."""
        folder, absolute = self._journal.path.parent.resolve(), path.resolve()
        return str(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)


class TrackedRun(LocalRun):
    """A run whose journal is delivered to a store while it goes on.

    Args:
        opened: The journal.
        courier: Delivers it.
        warn: Told about tracker trouble, once per outage.
        flush_seconds: Longest time a value waits.
        system_metrics: Whether to sample the machine.
    """

    def __init__(
        self,
        opened: _Opened,
        courier: Courier,
        warn: Callable[[str], None],
        flush_seconds: float = 2.0,
        system_metrics: bool = True,
    ) -> None:
        super().__init__(opened)
        self._courier, self._warn, self._unique = courier, warn, opened.created["id"]
        self._delivery = Delivery(self._journal, courier, warn, flush_seconds)
        sampled = [step for key, steps in self._known.items() if key.startswith(PREFIX) for step in steps]
        self._sampler = (
            SystemSampler(self._log_system, max(sampled, default=-1) + 1) if system_metrics else None
        )

    @property
    def run_id(self) -> str | None:
        """Id in the store; ``None`` until a remote one has answered."""
        return self._courier.run_id

    @property
    def reference(self) -> str:
        """What a member of this group passes as ``parent_run_id``, known or not yet known to the store."""
        return self._courier.run_id or UNSENT_PARENT + self._unique

    def _log_system(self, values: Mapping[str, float], step: int) -> None:
        if self._journal.size - self._courier.offset < MOST_BEHIND:
            self.log(values, step)

    def _end(self, status: Status, reason: str | None) -> None:
        if self._sampler is not None:
            self._sampler.stop()
        short = reason[:LONGEST_PARAM] if reason else None
        self._journal.append({"op": "end", "status": status, "time": _now(), "reason": short})
        if not self._delivery.close():
            path = self._journal.path
            place = path.parent if path.name == "outbox.jsonl" else path
            self._warn(
                f"the tracking store did not take everything; send the rest with: nearfar sync {place}"
            )
        if self._journal.num_lost:
            self._warn(f"{self._journal.num_lost} records were lost because the disk was full")
        self._journal.close()


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
    resume: bool = False,
    system_metrics: bool = True,
) -> TrackedRun:
    """Begin a run, or go on with the one whose journal is at ``outbox``.

    A local store is written before this returns; a server is not waited for.

    Args:
        store: Opened store.
        experiment: Experiment name; created when new.
        name: Run name.
        params: Flat parameters; values longer than 6,000 characters are cut as MLflow would.
        tags: Tags.
        outbox: The journal; how far it is delivered is kept beside it, in ``<name>.sent``.
        warn: Told about tracker trouble.
        parent_run_id: Group run this one belongs to: its id, or its :attr:`TrackedRun.reference`.
        flush_seconds: Longest time a metric value waits.
        resume: Go on if there is a journal: what it holds is kept, what was not delivered comes first, and
            values logged again are dropped.
        system_metrics: Sample CPU, memory, disk, network and GPU every ten seconds.

    Returns:
        The run.

    Raises:
        StorageError: If a run in a local store, or the journal, cannot be created: better known now than
            after training.
    """
    created = _creation(store.uri, experiment, name, params, tags, parent_run_id)
    opened = _open(outbox, warn, created, resume)
    courier = Courier(store, outbox, warn)
    if not store.is_remote:
        try:
            _create_now(store, courier, opened)
        except Exception as error:
            opened.journal.close()
            if not opened.resumed:
                outbox.unlink(missing_ok=True)
            raise StorageError(f"cannot create a run in {store.uri}: {first_line(error)}") from error
    courier.remember(courier.offset)
    return TrackedRun(opened, courier, warn, flush_seconds, system_metrics)


def start_local_run(
    *,
    experiment: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    outbox: Path,
    warn: Callable[[str], None],
    resume: bool = False,
) -> LocalRun:
    """Begin a run that no store hears of, or go on with it.

    Args:
        experiment: Experiment name, for whom it is sent to later.
        name: Run name.
        params: Flat parameters.
        tags: Tags.
        outbox: The journal.
        warn: Told when the disk is full.
        resume: Go on if there is a journal.

    Returns:
        The run.
    """
    return LocalRun(_open(outbox, warn, _creation(None, experiment, name, params, tags, None), resume))


def set_aside(outbox: Path, warn: Callable[[str], None]) -> None:
    """Before a folder is used for another run: keep a journal that was not delivered, under another name.

    Args:
        outbox: The journal; nothing happens when there is none, or a store has all of it.
        warn: Told how to deliver it.
    """
    created, sent = header(outbox), outbox.with_suffix(".sent")
    if created is None or (created["uri"] is None and not sent.exists()):
        return
    if _sent_offset(sent) >= outbox.stat().st_size:
        return
    kept = outbox.with_name(f"{outbox.stem}-{created['id'][:6]}.jsonl")
    outbox.rename(kept)
    if sent.exists():
        sent.rename(kept.with_suffix(".sent"))
    warn(f"an earlier run never reached its store entirely; send the rest with: nearfar sync {kept}")


def _sent_offset(path: Path) -> int:
    try:
        return max(0, int(json.loads(path.read_text(encoding="utf-8"))["offset"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0


def _creation(
    uri: str | None,
    experiment: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    parent: str | None,
) -> Operation:
    created: Operation = {
        "op": "create",
        "id": uuid.uuid4().hex,
        "uri": uri,
        "experiment": experiment,
        "name": name,
        "time": _now(),
        "tags": {key: str(value) for key, value in tags.items()},
        "params": {key: str(value)[:LONGEST_PARAM] for key, value in params.items()},
        "parent": parent,
    }
    return redacted_values(created)


def _open(outbox: Path, warn: Callable[[str], None], created: Operation, resume: bool) -> _Opened:
    old = header(outbox) if resume else None
    if old is None:
        set_aside(outbox, warn)
        journal = Journal(outbox, warn, fresh=True)
        outbox.with_suffix(".sent").unlink(missing_ok=True)
        journal.append(created)
        return _Opened(journal, created)
    journal = Journal(outbox, warn)
    known: dict[str, set[int]] = defaultdict(set)
    count = 1
    for operation, _ in operations(outbox):
        if operation["op"] == "resume":
            count += 1
        elif operation["op"] == "metrics":
            for key in operation["values"]:
                known[key].add(operation["step"])
    journal.append({"op": "resume", "time": _now(), "count": count, "tags": created["tags"]})
    return _Opened(journal, old, dict(known), resumed=True)


def _create_now(store: Store, courier: Courier, opened: _Opened) -> None:
    if courier.run_id is not None:
        try:
            store.client.get_run(courier.run_id)
        except Exception as error:
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                raise
            courier.restart()
    if courier.run_id is None:
        courier.apply(opened.created)
        courier.offset = next(operations(opened.journal.path), ({}, 0))[1]


def _now() -> int:
    return int(time.time() * 1000)
