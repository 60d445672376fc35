"""The MLflow store: where it is, whether it can be used, and its first touch under a lock."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfar.errors import ConfigError, StorageError, first_line
from nearfar.optional import require
from nearfar.tracking.names import slug

LOCK_SECONDS = 120.0
URI_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_SERVER = ("http://", "https://")


def default_uri(root: Path | None = None) -> str:
    """``MLFLOW_TRACKING_URI``, else the SQLite file ``mlruns/mlflow.db`` below ``root`` (the working folder)."""
    folder = (root or Path.cwd()).resolve() / "mlruns"
    return os.environ.get(URI_VARIABLE) or f"{_SQLITE}{folder / 'mlflow.db'}"


@dataclass(frozen=True)
class Store:
    """An opened store."""

    uri: str
    client: Any
    folder: Path | None  # of a local SQLite store

    @property
    def is_remote(self) -> bool:
        """Whether it is a server, which may be away; a database is there or an error."""
        return self.uri.startswith(_SERVER)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Alone among the processes that use a local store; a server looks after itself.

        Raises:
            StorageError: If another process does not let go for two minutes.
        """
        with _lock(self.folder):
            yield

    def experiment(self, name: str) -> str:
        """Id of the experiment, created when new; artifacts of a local store go to ``artifacts/<name>``."""
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        if found is not None:
            return str(found.experiment_id)
        location = None
        if self.folder is not None:
            location = (self.folder / "artifacts" / slug(name)).as_uri()
        with self.lock():
            found = self.client.get_experiment_by_name(name)
            if found is not None:
                return str(found.experiment_id)
            # The tag opens the page of training runs rather than that of language-model traces.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self.client.create_experiment(name, artifact_location=location, tags=kind))


def open_store(uri: str | None = None) -> Store:
    """Open the store, creating a local one; a server is not asked anything yet and may be away.

    Args:
        uri: MLflow tracking URI; ``None`` means :func:`default_uri`.

    Raises:
        MissingDependencyError: If MLflow is not installed.
        ConfigError: If the URI is a folder of MLflow's retired file store.
        StorageError: If the database cannot be written or is locked for two minutes.
    """
    uri = uri or default_uri()
    path = _sqlite_path(uri)
    if path is not None:
        _refuse_file_store(path.parent, uri)
        _check_writable(path)
    elif "://" not in uri or uri.startswith("file:"):
        raise ConfigError(
            f"tracking.uri: '{uri}' is a folder, and MLflow no longer keeps runs in folders; "
            f"write {_SQLITE}<absolute path>/mlflow.db or the address of a server"
        )
    # Both before the import: MLflow reads them once.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    tracking = require("mlflow.tracking", "tracking runs")
    for name in ("mlflow.store.db.utils", "mlflow.store.model_registry", "mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for every retry otherwise
    if uri.startswith(_SERVER):
        return Store(uri, tracking.MlflowClient(tracking_uri=uri), None)
    folder = path.parent if path else None
    # Five processes that open a fresh database together crash each other's migration; making a client opens it.
    with _lock(folder):
        try:
            client = tracking.MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
        except Exception as error:
            raise StorageError(f"the tracking store {uri} cannot be used: {first_line(error)}") from error
    return Store(uri, client, folder)


def _sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def _refuse_file_store(folder: Path, uri: str) -> None:
    old = [p.parent.name for p in folder.glob("*/meta.yaml") if p.parent.name.isdigit()]
    if old:
        raise ConfigError(
            f"{folder} holds experiments of MLflow's retired file store ({', '.join(sorted(old))}); move them with "
            f"'mlflow migrate-filestore --source {folder} --target {uri}' and remove those folders"
        )


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open("r+b"):
                pass
    except OSError as error:
        raise StorageError(
            f"the tracking store {path} cannot be written: {error.strerror}; "
            "set tracking.uri to another place, or tracking.enabled=false"
        ) from None


@contextmanager
def _lock(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    filelock = require("filelock", "tracking runs")
    lock = filelock.FileLock(folder / ".mlflow.lock", timeout=LOCK_SECONDS)
    try:
        with lock:
            yield
    except filelock.Timeout:
        raise StorageError(f"another process has held {lock.lock_file} for {LOCK_SECONDS:.0f} s") from None
