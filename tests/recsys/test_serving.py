"""The stored model: loaded without the training stack, served over HTTP, equal to the recommender in this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfar.optional import installed
from nearfar.recsys import Interactions, Recommender, SASRec, SASRecConfig, leave_one_out
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.serving import pyfunc_arguments, requirements
from nearfar.runtime import numpy_generator

pytestmark = pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")

START_SECONDS, STOP_SECONDS = 180, 20
HISTORIES = [["103", "120", "101"], ["107"], ["131", "131", "102", "119"]]


@dataclass(frozen=True)
class Stored:
    """A recommender, and the folder of its MLflow model."""

    recommender: Recommender
    folder: Path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Integer ids, which travel as text."""
    import mlflow

    rng = numpy_generator(0, "serving")
    items = 100 + np.concatenate([rng.permutation(40)[:8] for _ in range(60)])
    data = Interactions.from_columns(np.repeat(np.arange(60), 8), items, np.tile(np.arange(8), 60))
    method = SASRec(SASRecConfig(dim=16, inner_dim=32, max_length=6, device="cpu"), leave_one_out(data))
    recommender = Recommender.from_method(method, Dataset("toy", "toy", data))
    place = tmp_path_factory.mktemp("serving")
    recommender.save(place / "model")
    arguments = dict(pyfunc_arguments(place / "model"))
    assert arguments.pop("name") == "recommender"
    mlflow.pyfunc.save_model(place / "stored", **arguments)
    return Stored(recommender, place / "stored")


def expected(
    stored: Stored, histories: list[list[str]], **options: Any
) -> list[tuple[list[str], list[float]]]:
    """Items as text and scores of each history, from this process."""
    frame = stored.recommender.recommend_from_histories(
        histories, unknown="skip", on_empty="popularity", allow_short=True, **options
    )
    parts = [frame[frame["user"] == row] for row in range(len(histories))]
    return [([str(item) for item in part["item"]], part["score"].tolist()) for part in parts]


def same(answers: list[dict[str, Any]], wanted: list[tuple[list[str], list[float]]]) -> None:
    assert [answer["items"] for answer in answers] == [items for items, _ in wanted]
    for answer, (_, scores) in zip(answers, wanted, strict=True):
        assert answer["scores"] == pytest.approx(scores, rel=0, abs=1e-6)


def test_the_stored_model_says_what_it_takes(stored: Stored) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(stored.folder))
    signature = model.metadata.signature
    assert str(signature.inputs) == "['history': Array(string) (required)]"
    assert [str(column) for column in signature.outputs.inputs] == [
        "'items': Array(string) (required)",
        "'scores': Array(double) (required)",
    ]
    assert {param.name: param.default for param in signature.params} == {"k": 20, "exclude_seen": True}
    example = model.input_example
    assert [list(history) for history in example["history"]] == [["100", "101"], ["100"]]
    assert not list(stored.folder.rglob("*.pkl"))
    pinned = (stored.folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in pinned} == {
        *("fastapi", "mlflow", "nearfar", "numpy", "pandas", "safetensors", "torch", "uvicorn")
    }
    assert all("==" in line and "+" not in line for line in pinned)


def test_requirements_leave_out_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "nearfar": "0.1.0"}
    monkeypatch.setattr("nearfar.recsys.serving.version", versions.get)
    assert requirements() == ["nearfar==0.1.0", "numpy==2.4.6", "torch==2.13.0"]


def test_a_loaded_model_answers_like_the_recommender(stored: Stored) -> None:
    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model(str(stored.folder))
    for options in ({}, {"k": 3}, {"k": 39, "exclude_seen": False}, {"k": 40}, {"exclude_seen": False}):
        answer = model.predict(pd.DataFrame({"history": HISTORIES}), params=options)
        assert list(answer.columns) == ["items", "scores"]
        same(answer.to_dict("records"), expected(stored, HISTORIES, **{"k": 20, **options}))


LOAD = """
import sys
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.DataFrame({"history": [["103"]]}), params={"k": 2})
assert len(answer["items"][0]) == 2
foreign = {"nearfar", "mlflow", "pandas", "torch"} & set(sys.modules)
assert len(foreign) == 4, foreign
trainers = ("recbole", "ray", "optuna", "tsai", "torch_geometric", "nearfar.pipelines", "nearfar.tracking")
print([name for name in trainers if name in sys.modules])
"""


def test_loading_imports_nothing_of_the_training_stack(stored: Stored, tmp_path: Path) -> None:
    words = [sys.executable, "-c", LOAD, str(stored.folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def environment() -> dict[str, str]:
    """That of this process with its Python's programs first: MLflow starts uvicorn by its bare name."""
    programs = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_mlflow_models_serve_answers_like_the_recommender(stored: Stored, tmp_path: Path) -> None:
    """One server for every request, since it takes its time to start."""
    with serving(stored.folder, tmp_path) as url:
        check_answers(stored, url)
        check_odd_histories(stored, url)
        check_refusals(url)
        _, body = ask(url, "/ping", None)
        assert body.strip() == "", "it is still there"


def check_answers(stored: Stored, url: str) -> None:
    split = {"columns": ["history"], "index": [5, 4, 3], "data": [[history] for history in HISTORIES]}
    records = [{"history": history} for history in HISTORIES]
    for options in ({"k": 3}, {"k": 5, "exclude_seen": False}, None):
        wanted = expected(stored, HISTORIES, **(options or {}))
        for form in ({"dataframe_split": split}, {"dataframe_records": records}):
            body = form if options is None else form | {"params": options}
            same(predictions(url, body), wanted)
    assert len(wanted[0][0]) == 20, "k is 20 unless the request says otherwise"


def check_odd_histories(stored: Stored, url: str) -> None:
    """Unknown items, no items, everything seen: each row has its answer, in its place."""
    everything = [str(item) for item in stored.recommender.data.item_ids]
    odd = [["103", "no such item", "101"], [], ["no such item"], ["120"], everything]
    body = {"dataframe_split": {"columns": ["history"], "data": [[history] for history in odd]}}
    answers = predictions(url, body | {"params": {"k": 4}})
    same(answers, expected(stored, odd, k=4))
    same([answers[0]], expected(stored, [["103", "101"]], k=4))
    assert answers[1] == answers[2], "the most popular items"
    assert answers[4] == {"items": [], "scores": []}


def check_refusals(url: str) -> None:
    cases: list[tuple[Any, str]] = [
        ({"dataframe_records": [{"history": "103"}]}, "Expected data to be list or numpy array, got str"),
        ({"dataframe_records": [{"history": [103, 120]}]}, "Can not safely convert int64"),
        ({"dataframe_records": [{"past": ["103"]}]}, "history"),
        ({"dataframe_records": [{"history": ["103"]}], "params": {"k": 0}}, "k: 1 to 40"),
        ({"dataframe_records": [{"history": ["103"]}], "params": {"k": "many"}}, "k"),
        ({"histories": [["103"]]}, "dataframe_split"),
    ]
    for body, reason in cases:
        status, answer = ask(url, "/invocations", body)
        assert status == 400, (body, answer)
        assert reason in json.loads(answer)["message"], answer


def predictions(url: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    status, answer = ask(url, "/invocations", body)
    assert status == 200, answer
    found: list[dict[str, Any]] = json.loads(answer)["predictions"]
    return found


def ask(url: str, path: str, body: Any) -> tuple[int, str]:
    """Status and text of one request: a POST of JSON, or a GET."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status), response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextlib.contextmanager
def serving(model: Path, place: Path) -> Iterator[str]:
    """A server of the model in a process group of its own, and nothing of it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    log = place / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*words, "-h", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=place,
            env=environment(),
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, server, log)
        yield url
    finally:
        stop(server)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "somebody still listens"


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it says that it is healthy."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        try:
            if ask(url, "/health", None)[0] == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace"))


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end, and end it if it does not."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, request)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            server.poll()
            try:
                os.killpg(server.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
    raise AssertionError("processes of the server are left")
