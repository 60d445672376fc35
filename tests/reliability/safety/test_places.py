"""Names out of files never lead out of the folder that was given: neither to read nor to write.

Links: what is read may be a link (data and models are kept that way), its content is checked as any other. What is
written takes the place of a link and never goes where it leads. What is uploaded must lie in the run's own folder,
links followed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.atomic import write_atomically
from nearfar.data.npz import read_npz
from nearfar.errors import ConfigError, DataError
from nearfar.pipelines.output import OutputFolder
from nearfar.pipelines.records import _run_ids
from nearfar.saved import SavedFormat
from nearfar.tracking import set_aside
from nearfar.tracking.courier import Courier
from nearfar.tracking.journal import header, operations
from nearfar.tracking.names import experiment_name, slug
from nearfar.tracking.served import store_model
from nearfar.tracking.store import Store
from nearfar.training.checkpoint import CheckpointStore

pytestmark = pytest.mark.row("L03", damages=1)
CREATE = {
    "op": "create",
    "id": "0" * 32,
    "uri": "http://127.0.0.1:1",
    "experiment": "nearfar/x",
    "name": "n",
    "time": 1,
    "tags": {},
    "params": {},
    "parent": None,
}


class Client:
    """Notes what is uploaded."""

    def __init__(self) -> None:
        self.uploaded: list[tuple[str, str | None]] = []

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        """A file."""
        self.uploaded.append((path, folder))

    log_artifacts = log_artifact


@pytest.fixture
def deliver(tmp_path: Path) -> Callable[[dict[str, Any]], tuple[list[tuple[str, str | None]], list[str]]]:
    """Function that delivers one line of a journal; what was uploaded, and what was said."""
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text("lr: 1")
    (tmp_path / "secret").write_text("secret")

    def act(operation: dict[str, Any]) -> tuple[list[tuple[str, str | None]], list[str]]:
        client, said = Client(), list[str]()
        courier = Courier(Store("http://127.0.0.1:1", client, None), run / "outbox.jsonl", said.append)
        courier.run_id = "0" * 32
        courier.apply(operation)
        return client.uploaded, said

    return act


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "{tmp}/secret", "link", "linked", "model/../../secret"]
)
def test_a_journal_uploads_nothing_from_elsewhere(tmp_path: Path, deliver: Any, path: str) -> None:
    """By a relative or an absolute path, through a link, or through a link inside a folder."""
    run = tmp_path / "run"
    (run / "link").symlink_to(tmp_path / "secret")
    (run / "linked").mkdir()
    (run / "linked" / "deep").symlink_to(tmp_path)
    uploaded, said = deliver({"op": "artifact", "path": path.format(tmp=tmp_path), "folder": None})
    assert uploaded == []
    assert "could not be recorded" in said[0]
    assert "lies outside" in said[0]


@pytest.mark.parametrize("folder", ["../x", "/x", "a/../../x", ".."])
def test_nothing_is_uploaded_to_elsewhere(deliver: Any, folder: str) -> None:
    """Among a run's artifacts is where artifacts go."""
    uploaded, said = deliver({"op": "artifact", "path": "config.yaml", "folder": folder})
    assert uploaded == []
    assert "is no folder among the run's artifacts" in said[0]


def test_what_is_the_runs_own_is_uploaded(tmp_path: Path, deliver: Any) -> None:
    """By a relative path or the absolute one."""
    for path in ("config.yaml", str(tmp_path / "run" / "config.yaml"), "model"):
        uploaded, said = deliver({"op": "artifact", "path": path, "folder": "curves"})
        assert uploaded[0][1] == "curves"
        assert not said


@pytest.mark.parametrize(
    "builder", ["os:system", "subprocess:getoutput", "shutil:rmtree", "builtins:eval", "x y:z", ""]
)
def test_a_journal_calls_nothing_but_builders(tmp_path: Path, builder: str) -> None:
    """``os:system`` with a folder named like a command would have been called."""
    folder = tmp_path / "model"
    folder.mkdir()
    pytest.importorskip("mlflow")
    with pytest.raises(FileNotFoundError, match=r"builds no models|there is no module"):
        store_model(Store("http://127.0.0.1:1", None, None), "0" * 32, builder, folder)
    assert folder.is_dir()


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "x' OR 1=1", "a" * 100])
def test_the_id_of_a_journal_names_no_other_file(tmp_path: Path, name: str) -> None:
    """It becomes part of the name under which the journal is kept, and of a search."""
    path = tmp_path / "run" / "outbox.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(CREATE | {"id": name}) + "\n")
    assert header(path) is None
    set_aside(path, print)
    path.write_text(json.dumps(CREATE | {"parent": f"nearfar:{name}' OR"}) + "\n")
    assert next(operations(path))[0] == {"op": "damaged"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    assert [entry.name for entry in path.parent.iterdir()] == ["outbox.jsonl"]


@pytest.mark.parametrize("name", ["..", ".", "../..", "a/../../b", "/etc", "\\..\\x", "a\0b", "", "…"])
def test_names_of_data_make_one_folder(name: str) -> None:
    """Below the one for all of them."""
    made = slug(name)
    assert made not in ("", ".", "..")
    assert "/" not in made
    assert "\\" not in made
    assert "\0" not in made
    assert experiment_name("graph", name).count("/") == 2


@pytest.mark.parametrize("run_id", ["../x", 7, ["0" * 32], "0" * 31, "0" * 32 + "/.."])
def test_run_ids_are_run_ids(tmp_path: Path, run_id: Any) -> None:
    """In ``run.json``."""
    (tmp_path / "run.json").write_text(json.dumps({"run_id": run_id}))
    with pytest.raises(ConfigError, match=r"run\.json is damaged: run_id is"):
        _run_ids(tmp_path)


def test_members_of_archives_are_never_files(tmp_path: Path) -> None:
    """Whatever they are called: they are read from the archive, as arrays, and nothing is unpacked."""
    folder = tmp_path / "data"
    folder.mkdir()
    np.savez(folder / "a.npz", x=np.eye(2))
    with zipfile.ZipFile(folder / "a.npz", "a") as file:
        for name in ("../../out.npy", "/etc/out.npy", "x/../../y.npy"):
            file.writestr(name, b"x")
    assert read_npz(folder / "a.npz", ["x"])["x"].tolist() == np.eye(2).tolist()
    with pytest.raises(DataError, match=r"a\.npz cannot be read as \.npz"):
        read_npz(folder / "a.npz")
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "a.npz"]


def test_descriptions_name_no_files(tmp_path: Path) -> None:
    """``weights`` is a digest: a path there is one that does not fit."""
    form, folder = SavedFormat("toy", "toy.json"), tmp_path / "model"
    form.write(folder, {"w": torch.zeros(2)}, {})
    (tmp_path / "other").write_bytes((folder / "model.safetensors").read_bytes())
    description = json.loads((folder / "toy.json").read_text())
    (folder / "toy.json").write_text(json.dumps(description | {"weights": "../other"}))
    with pytest.raises(DataError, match="is damaged, or not the one"):
        form.read(folder)


def test_saved_models_that_are_links(tmp_path: Path) -> None:
    """Are read; written over, the link goes and what it led to stays."""
    form, folder, cache = SavedFormat("toy", "toy.json"), tmp_path / "model", tmp_path / "cache"
    form.write(cache, {"w": torch.ones(2)}, {"of": "cache"})
    before = {path.name: path.read_bytes() for path in cache.iterdir()}
    folder.mkdir()
    for name in before:
        (folder / name).symlink_to(cache / name)
    tensors, description = form.read(folder)
    assert torch.equal(tensors["w"], torch.ones(2))
    assert description["of"] == "cache"
    form.write(folder, {"w": torch.zeros(2)}, {"of": "folder"})
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_files_that_are_links_are_replaced(tmp_path: Path) -> None:
    """Checkpoints, settings, run.json: all are written this way."""
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("theirs")
    link.symlink_to(other)
    write_atomically(link, "ours")
    assert other.read_text() == "theirs"
    assert not link.is_symlink()


def test_names_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    """A file may be called anything."""
    for name in ("step-x.ckpt", "step-.ckpt", "step-1.ckpt", "step-00000001.ckpt.bak", "step-0x000001.ckpt"):
        (tmp_path / name).write_text("x")
    assert CheckpointStore(tmp_path).steps() == []
    assert CheckpointStore(tmp_path).load_latest({}) is None


def test_a_run_begun_anew_removes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    """``checkpoints`` may be a link to a folder of somebody's."""
    theirs, folder = tmp_path / "theirs", tmp_path / "run"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("x")
    folder.mkdir()
    (folder / "checkpoints").symlink_to(theirs, target_is_directory=True)
    from nearfar.config import RunConfig
    from nearfar.errors import StorageError

    with pytest.raises(StorageError, match=r"output_dir: .* cannot be written: .*; choose another folder"):
        OutputFolder(folder).prepare(RunConfig(data="x"), keep=False)
    assert (theirs / "thesis.txt").read_text() == "x"
