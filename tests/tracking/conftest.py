"""A real MLflow server in a thread, whose answers a test can spoil, and what a store holds of a run."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfar.tracking import Store, TrackedRun, start_run

Answer = Callable[..., Iterable[bytes]]


class Server:
    """MLflow's own web application on a free port.

    Attributes:
        trouble: ``None``, ``"error"`` (500 to everything), or ``"hang"`` (no answer until it changes).
        calls: Requests that got through.
    """

    def __init__(self, app: Any) -> None:
        from werkzeug.serving import make_server

        self._app, self._make = app, make_server
        self.trouble: str | None = None
        self.calls = 0
        self._over = threading.Event()
        self._server: Any = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.port = self._server.port
        self.uri = f"http://127.0.0.1:{self.port}"
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self.trouble == "hang":
            self._over.wait(60)
        if self.trouble is not None:
            start_response("500 INTERNAL SERVER ERROR", [("Content-Type", "text/plain")])
            return [b"out of order"]
        self.calls += 1
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def stop(self) -> None:
        """Nobody listens any more."""
        self._server.shutdown()
        self._server.server_close()

    def recover(self) -> None:
        """Whatever was wrong is over."""
        self.trouble = None
        self._over.set()
        if self._server.fileno() < 0:
            self._server = self._make("127.0.0.1", self.port, self._answer, threaded=True)
            self._serve()


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """MLflow's web application on one database for all tests."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", (folder / "artifacts").as_uri())
        patch.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{folder / 'server.db'}")
        patch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        from mlflow.server import app

        for name in ("werkzeug", "mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # The first request changes how the client in this process finds runs of any store, so it comes first.
        app.test_client().get("/api/2.0/mlflow/experiments/search?max_results=1")
        yield app


@pytest.fixture
def server(application: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A healthy server, and clients that give up on a bad one within a second."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server = Server(application)
    yield server
    server.recover()
    server.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything the delivery waits for, made short."""
    monkeypatch.setattr("nearfar.tracking.delivery.BACK_OFF_SECONDS", (0.05,))
    monkeypatch.setattr("nearfar.tracking.delivery.CLOSING_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("nearfar.tracking.delivery.LEAST_DRAIN_SECONDS", 0.3)
    monkeypatch.setattr("nearfar.tracking.redelivery.PAUSE_SECONDS", 0.01)


@pytest.fixture
def warnings() -> list[str]:
    """What a run complained about."""
    return []


@pytest.fixture
def begin(warnings: list[str]) -> Callable[..., TrackedRun]:
    """``begin(store, folder, **options)``: a run with the settings most tests want."""

    def start(store: Store, folder: Path, **options: Any) -> TrackedRun:
        arguments: dict[str, Any] = {
            "experiment": "nearfar/toy/toy",
            "name": "toy-s0",
            "params": {"optim.lr": 0.1},
            "tags": {"nearfar.kind": "train"},
            "system_metrics": False,
            "flush_seconds": 0.02,
            "warn": warnings.append,
            "outbox": folder / "outbox.jsonl",
        }
        return start_run(store, **arguments | options)

    return start


@pytest.fixture
def rows() -> Callable[..., list[tuple[int, float]]]:
    """``rows(store, run_id, key)``: every stored point of a metric, duplicates included."""
    return _rows


def _rows(store: Store, run_id: str | None, key: str) -> list[tuple[int, float]]:
    history = store.client.get_metric_history(run_id, key)
    return sorted((point.step, point.value) for point in history)


@pytest.fixture
def content() -> Callable[..., dict[str, Any]]:
    """``content(store, run_id)``: all a store knows of a run but what differs between runs, ids and times."""

    def look(store: Store, run_id: str | None) -> dict[str, Any]:
        run = store.client.get_run(run_id)
        mine = f"source_run_id = '{run_id}'"
        models = store.client.search_logged_models([run.info.experiment_id], filter_string=mine)
        return {
            "name": run.info.run_name,
            "status": run.info.status,
            "has end": run.info.end_time is not None,
            "params": run.data.params,
            "tags": {key: value for key, value in run.data.tags.items() if key != "nearfar.run"},
            "metrics": {key: _rows(store, run_id, key) for key in run.data.metrics},
            "datasets": [(entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs],
            "artifacts": sorted(file.path for file in store.client.list_artifacts(run_id)),
            "models": [(model.name, str(model.status)) for model in models],
            "outputs": len(run.outputs.model_outputs),
        }

    return look


SERVED = """
import mlflow


class Echo(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.weights = open(context.artifacts["model"] + "/weights.txt").read()

    def predict(self, model_input: list[str]) -> list[str]:
        return [self.weights for _ in model_input]


mlflow.models.set_model(Echo())
"""

BUILDER = """
from pathlib import Path

PYFUNC_BUILDERS = ("arguments",)


def arguments(folder):
    return {
        "name": "echo",
        "python_model": str(Path(__file__).with_name("served_echo.py")),
        "artifacts": {"model": str(folder)},
        "pip_requirements": [],
    }
"""


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``module:function`` that makes a tiny model of a folder with ``weights.txt``."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "served_echo.py").write_text(SERVED, encoding="utf-8")
    (folder / "echo_builder.py").write_text(BUILDER, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "echo_builder", raising=False)
    return "echo_builder:arguments"


@pytest.fixture
def whole_run(begin: Callable[..., TrackedRun], builder: str) -> Callable[..., TrackedRun]:
    """``whole_run(store, folder, between)``: every kind of operation; ``between(run)`` is called half way."""

    def perform(
        store: Store, folder: Path, between: Callable[[TrackedRun], None] = lambda run: None
    ) -> TrackedRun:
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights.txt").write_text("1 2 3", encoding="utf-8")
        (folder / "config.yaml").write_text("lr: 0.1", encoding="utf-8")
        run = begin(store, folder)
        run.dataset("toy", "d" * 40, "toy.inter")
        run.artifact(folder / "config.yaml")
        for step in range(600):
            if step == 300:
                between(run)
            run.log({"train/loss": 1 / (step + 1), "train/lr": 0.1}, step)
        run.tag({"nearfar.variant": "default"})
        run.model({"builder": builder, "folder": str(folder / "model")})
        run.finish("FINISHED")
        return run

    return perform
