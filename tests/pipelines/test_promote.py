"""A run's model gets a name and an alias in the store it was recorded in; whatever cannot be promoted is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nearfar.errors import ConfigError, StorageError
from nearfar.optional import installed
from nearfar.pipelines.cli import run as command_line
from nearfar.pipelines.promotion import promote
from nearfar.pipelines.train import Outcome, train
from nearfar.recsys import Recommender
from nearfar.tracking import Store, open_store, promote_model, store_address

pytestmark = pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")

NAME = "nearfar-recsys-ring"


@dataclass(frozen=True)
class Trained:
    """A store in a place of its own with two runs that have a model, and one that has none."""

    store: Store
    first: Outcome
    second: Outcome
    bare: Outcome


@pytest.fixture(scope="module")
def trained(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Popularity takes no time to train."""
    from nearfar.recsys.example import ring

    place = tmp_path_factory.mktemp("promote")
    shutil.copy(empty_store, place / "mlflow.db")
    uri = f"sqlite:///{place}/mlflow.db"
    settings = [*ring(place / "data"), f"tracking.uri={uri}"]

    def one(name: str, *more: str) -> Outcome:
        words = [*settings, f"output_dir={place}/{name}", *more]
        return train("recsys.popularity", words, quiet=True)

    runs = one("first"), one("second", "seed=1"), one("bare", "seed=2", "tracking.log_model=false")
    return Trained(open_store(uri), *runs)


@pytest.fixture
def fresh(trained: Trained) -> Trained:
    """The same with an empty registry."""
    for model in trained.store.client.search_registered_models():
        trained.store.client.delete_registered_model(model.name)
    return trained


def versions(store: Store, name: str = NAME) -> list[tuple[int, str]]:
    """Version and run of everything registered."""
    found = store.client.search_model_versions(f"name = '{name}'")
    return sorted((int(version.version), version.run_id) for version in found)


def test_promoting_twice_changes_nothing(fresh: Trained) -> None:
    for again in (False, True):
        done, store = promote(fresh.first.output_dir)
        assert store.uri == fresh.store.uri, "that of the run, not the one of the working folder"
        assert (done.name, done.version, done.alias, done.run_id) == (NAME, 1, "champion", fresh.first.run_id)
        assert done.previous == (1 if again else None)
        assert done.model_uri == f"models:/{NAME}@champion"
        assert versions(fresh.store) == [(1, fresh.first.run_id)]
    tags = fresh.store.client.get_model_version(NAME, "1").tags
    assert tags["nearfar.method"] == "recsys.popularity"
    assert tags["nearfar.dataset"] == "ring"
    assert len(tags["nearfar.dataset_digest"]) == 32


def test_the_alias_moves_and_moves_back(fresh: Trained) -> None:
    assert fresh.second.run_id is not None
    promote(fresh.first.output_dir)
    done, _ = promote(fresh.second.run_id, uri=fresh.store.uri)
    assert (done.version, done.previous) == (2, 1)
    back, _ = promote(fresh.first.output_dir)
    assert (back.version, back.previous) == (1, 2), "no third version"
    assert versions(fresh.store) == [(1, fresh.first.run_id), (2, fresh.second.run_id)]
    other, _ = promote(fresh.second.output_dir, alias="challenger", name="films")
    assert (other.name, other.version, other.previous) == ("films", 1, None)
    for name, alias in ((NAME, "champion"), ("films", "challenger")):
        assert int(fresh.store.client.get_model_version_by_alias(name, alias).version) == 1


LOAD = """
import sys
import mlflow
import pandas as pd

answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({"history": [["i1"]]}), params={"k": 3})
print(answer["items"][0], [name for name in ("recbole", "ray", "nearfar.pipelines") if name in sys.modules])
"""


@pytest.mark.slow
def test_the_champion_loads_where_only_the_store_is_known(fresh: Trained, tmp_path: Path) -> None:
    done, _ = promote(fresh.first.output_dir)
    words = [sys.executable, "-c", LOAD, done.model_uri]
    environment = os.environ | {"MLFLOW_TRACKING_URI": fresh.store.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    answer = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert answer.returncode == 0, answer.stderr
    recommender = Recommender.load(Path(fresh.first.output_dir) / "model", "cpu")
    expected = recommender.recommend_from_histories([["i1"]], k=3)["item"].tolist()
    assert answer.stdout.strip().splitlines()[-1] == f"{expected} []"


def test_the_command_prints_how_to_load_it(fresh: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["promote", fresh.first.output_dir]) == 0
    said, load, serve = capsys.readouterr().out.strip().splitlines()
    assert said == (f"{NAME} version 1 is champion: run {fresh.first.run_id} in {fresh.store.uri}"), (
        "one line, however long"
    )
    assert f'mlflow.set_tracking_uri("{fresh.store.uri}")' in load
    assert f'mlflow.pyfunc.load_model("models:/{NAME}@champion")' in load
    assert f"mlflow models serve -m models:/{NAME}@champion --env-manager local" in serve
    assert command_line(["promote", fresh.second.output_dir]) == 0
    assert f"{NAME} version 2 is champion (was version 1): run" in capsys.readouterr().out
    assert command_line(["promote", fresh.second.output_dir, "--alias", "b", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == {
        "name": NAME,
        "version": 2,
        "alias": "b",
        "previous": None,
        "run_id": fresh.second.run_id,
        "model_uri": f"models:/{NAME}@b",
        "uri": fresh.store.uri,
    }


def test_what_has_no_model_is_refused(fresh: Trained, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"run {fresh.bare.run_id} has no stored model; train with tracking.log"
    ):
        promote(fresh.bare.output_dir)
    assert fresh.store.client.search_registered_models() == [], "nothing was registered"
    with pytest.raises(ConfigError, match="nothing is recorded in"):
        promote("0" * 32)
    with pytest.raises(ConfigError, match="no run 0000"):
        promote("0" * 32, uri=fresh.store.uri)
    with pytest.raises(ConfigError, match="unknown experiment 'nowhere'"):
        promote("nowhere", uri=fresh.store.uri)
    with pytest.raises(ConfigError, match=r"stands for 3 runs; promote one: .*\(recsys.popularity, seed "):
        promote("recsys/ring", uri=fresh.store.uri)
    (tmp_path / "letters").mkdir()
    with pytest.raises(ConfigError, match="is no output folder"):
        promote(str(tmp_path / "letters"), uri=fresh.store.uri)


def test_names_that_mlflow_refuses(fresh: Trained) -> None:
    for alias in ("", "two words", "a/b", "latest", "Latest", "v1", "V12"):
        with pytest.raises(ConfigError, match=f"alias: letters, .*got '{alias}'"):
            promote(fresh.first.output_dir, alias=alias)
    with pytest.raises(ConfigError, match="name: sqlite.* refuses 'a/b': .*Names cannot contain"):
        promote(fresh.first.output_dir, name="a/b")
    assert command_line(["promote", fresh.first.output_dir, "--name", "a/b"]) == 2
    assert fresh.store.client.search_registered_models() == [], "nothing was registered"
    for alias in ("v", "v1a", "latest_one", "a-b"):
        assert promote(fresh.first.output_dir, alias=alias)[0].alias == alias


def test_a_model_whose_files_are_gone(fresh: Trained) -> None:
    run_id = fresh.second.run_id
    run = fresh.store.client.get_run(run_id)
    [output] = run.outputs.model_outputs
    place = Path(
        fresh.store.client.get_logged_model(output.model_id).artifact_location.removeprefix("file://")
    )
    place.rename(place.with_name("elsewhere"))
    try:
        with pytest.raises(ConfigError, match=f"the files of run {run_id}'s model are gone from"):
            promote(fresh.second.output_dir)
    finally:
        place.with_name("elsewhere").rename(place)


def test_a_store_that_does_not_answer(fresh: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    assert fresh.first.run_id is not None
    monkeypatch.setattr(fresh.store.client, "set_registered_model_alias", away)
    with pytest.raises(StorageError, match="does not answer: nobody there"):
        promote_model(fresh.store, fresh.first.run_id, NAME, "champion")


def test_where_a_run_was_recorded(fresh: Trained, tmp_path: Path) -> None:
    folder = Path(fresh.first.output_dir)
    assert store_address(folder) == store_address(folder / "outbox.jsonl") == fresh.store.uri
    assert store_address(tmp_path) is None
    shutil.copy(folder / "outbox.jsonl", tmp_path / "outbox.jsonl")
    assert store_address(tmp_path) == fresh.store.uri, "what the journal was begun for"
    sent = {"uri": "http://127.0.0.1:1", "run_id": "x", "offset": 0}
    (tmp_path / "outbox.sent").write_text(json.dumps(sent))
    assert store_address(tmp_path) == "http://127.0.0.1:1", "what it was sent to last"
