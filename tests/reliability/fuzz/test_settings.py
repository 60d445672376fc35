"""F06: settings, journals of runs and studies, what a run says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.config import RunConfig, file_layer, resolve
from nearfar.optional import installed
from nearfar.pipelines.output import OutputFolder
from nearfar.pipelines.records import _run_ids
from nearfar.tracking.courier import _read_sent
from nearfar.tracking.curves import Curves
from nearfar.tracking.journal import header, operations, read
from nearfar.tracking.redelivery import _last_uri
from nearfar.tuning.journal import open_journal

pytestmark = pytest.mark.row("F06")
SETTINGS = b"""# a recipe
data: ml-100k
seed: 3
epochs: 5
device: cpu
deterministic: false
optim: {lr: 1e-3, weight_decay: 0.01}
checkpoint:
  keep: 2
tracking:
  enabled: false
  uri: null
"""


@given(data=st.data())
def test_settings(fuzz: Any, data: st.DataObject) -> None:
    """A file of settings, read and validated."""
    content = data.draw(fuzz.spoilt_bytes(SETTINGS))
    found = fuzz.read(
        {"recipe.yaml": content},
        lambda folder: resolve(RunConfig, [file_layer(folder / "recipe.yaml")]),
        ["recipe.yaml", "default"],
    )
    assert found is None or isinstance(found.seed, int)


LINES: list[dict[str, Any]] = [
    {
        "op": "create",
        "id": "0" * 32,
        "uri": "http://x",
        "experiment": "nearfar/x",
        "name": "n",
        "time": 1,
        "tags": {"a": "b"},
        "params": {"lr": "0.1"},
        "parent": None,
    },
    {"op": "dataset", "name": "toy", "digest": "d", "source": "toy.inter"},
    {"op": "metrics", "step": 1, "time": 5, "values": {"train/loss": 0.5, "val/x": 2}},
    {"op": "artifact", "path": "config.yaml", "folder": None},
    {"op": "model", "builder": "nearfar.recsys.serving:pyfunc_arguments", "folder": "model"},
    {"op": "tag", "tags": {"a": "b"}},
    {"op": "resume", "time": 7, "count": 1, "tags": {}},
    {"op": "end", "status": "FINISHED", "time": 9, "reason": None},
]


@given(data=st.data())
def test_journals_of_runs(fuzz: Any, data: st.DataObject) -> None:
    """Lines that are no operations are left out, and only lines that can be delivered are let through."""
    lines = [json.dumps(line).encode() for line in LINES]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        lines[place] = data.draw(fuzz.spoilt_json(LINES[place]))
    content = b"\n".join(lines) + data.draw(st.sampled_from([b"\n", b"", b"\n{"]))

    def look(folder: Path) -> Any:
        path = folder / "outbox.jsonl"
        Curves.read(path)
        read(path)
        header(path)
        return list(operations(path))

    found = fuzz.read({"outbox.jsonl": content}, look)
    assert found is not None
    ends = [end for _, end in found]
    assert ends == sorted(set(ends))
    assert not ends or ends[-1] <= len(content)


@given(data=st.data())
def test_what_was_sent(fuzz: Any, data: st.DataObject) -> None:
    """How far a journal was delivered: known, or nothing is."""
    content = data.draw(fuzz.spoilt_json({"uri": "http://x", "run_id": "0" * 32, "offset": 12}))

    def look(folder: Path) -> Any:
        path = folder / "outbox.sent"
        return _read_sent(path, "http://x"), _last_uri(path)

    (run_id, offset), _ = fuzz.read({"outbox.sent": content}, look)
    assert run_id is None or isinstance(run_id, str)
    assert isinstance(offset, int)
    assert offset >= 0


RUN = {
    "status": "done",
    "host": "h",
    "pid": 1,
    "time": 1.5,
    "run_id": "0" * 32,
    "tested": True,
    "fingerprint": {"method": "recsys.sasrec", "seed": 0},
    "metrics": {"val/x": 0.5},
    "reason": None,
}


@given(data=st.data())
def test_run_json(fuzz: Any, data: st.DataObject) -> None:
    """What a run says of itself."""
    content = data.draw(fuzz.spoilt_json(RUN))
    status = fuzz.read({"run.json": content}, lambda folder: OutputFolder(folder).status())
    assert status is None or isinstance(status.get("fingerprint", {}), dict)
    ids = fuzz.read({"run.json": content}, _run_ids, [fuzz.folder.name])
    assert ids is None or all(len(one) == 32 for one in ids)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a study of two trials."""
    optuna = pytest.importorskip("optuna")
    path = tmp_path_factory.mktemp("study") / "s.journal"
    made = optuna.create_study(storage=open_journal(path), study_name="s", direction="maximize")
    made.set_user_attr("plan", {"trials": 2})
    made.optimize(lambda trial: trial.suggest_float("lr", 0.1, 1.0), n_trials=2)
    return path.read_bytes()


@pytest.mark.skipif(not installed("optuna"), reason="optuna is not installed")
@given(data=st.data())
def test_journals_of_studies(fuzz: Any, study: bytes, tmp_path_factory: Any, data: st.DataObject) -> None:
    """The journal of a search; opening it may cut a torn last line, nothing else."""
    lines = [json.loads(line) for line in study.splitlines()]
    place = data.draw(st.integers(0, len(lines) - 1))
    spoilt = [json.dumps(line).encode() for line in lines]
    spoilt[place] = data.draw(fuzz.spoilt_json(lines[place]))
    content = data.draw(st.one_of(st.just(b"\n".join(spoilt) + b"\n"), fuzz.spoilt_bytes(study)))
    end = content.rfind(b"\n") + 1

    def look(folder: Path) -> Any:
        storage = open_journal(folder / "s.journal")
        return storage.get_all_studies()

    fuzz.read({"s.journal": content[:end]}, look, ["s.journal"])
