"""A run from start to end: what it measures, what it leaves in its folder, and how that is read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import DataError
from nearfar.graph import load_encoder
from nearfar.graph.linear_probe import linear_probe
from nearfar.graph.registry import METHODS
from nearfar.graph.task import GraphTask
from nearfar.pipelines.train import Outcome, train
from nearfar.runtime import generator
from nearfar.testing.conformance import Subject

pytest.importorskip("torch_geometric")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    example: Any = METHODS["graph.pot"].load("example")
    settings: list[str] = example(tmp_path_factory.mktemp("data"))
    # Untrained, the probe is right everywhere already: F1 would keep the weights of the start.
    kept = ["selection.metric=val/compactness_p40", "selection.every=5"]
    return [*settings, "epochs=5", *kept, "tracking.enabled=false", "device=cpu"]


@pytest.fixture(scope="module")
def outcome(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    place = tmp_path_factory.mktemp("runs") / "pot"
    return train("graph.pot", [*words, f"output_dir={place}"], quiet=True)


@pytest.fixture
def task(words: list[str]) -> GraphTask:
    entry = METHODS["graph.pot"]
    found = Subject(entry, tuple(words)).task
    assert isinstance(found, GraphTask)
    return found


def test_a_run_measures_everything(outcome: Outcome) -> None:
    for metric in GraphTask.metrics:
        for split in ("val", "test"):
            assert np.isfinite(outcome.metrics[f"{split}/{metric}"])
    for name in ("f1_micro", "f1_macro", "certified_share_p10", "certified_share_p40"):
        assert 0 <= outcome.metrics[f"test/{name}"] <= 1
    # A larger budget is harder to withstand.
    assert outcome.metrics["test/certified_share_p40"] <= outcome.metrics["test/certified_share_p10"]


def test_a_run_keeps_certificates_and_their_picture(outcome: Outcome) -> None:
    folder = Path(outcome.output_dir)
    summaries = json.loads((folder / "certificates.json").read_text())
    assert list(summaries) == ["0.1", "0.4"]
    for p, name in (("0.1", "p10"), ("0.4", "p40")):
        one = summaries[p]
        assert one["certified_share"] == outcome.metrics[f"test/certified_share_{name}"]
        assert one["bound"] <= one["sampled"] <= one["score"]
    assert summaries["0.4"]["bound"] == outcome.metrics["test/compactness_p40"]
    pytest.importorskip("matplotlib")
    assert (folder / "compactness.png").read_bytes().startswith(b"\x89PNG")


def test_cases_are_the_metric_node_by_node(outcome: Outcome, task: GraphTask) -> None:
    path = Path(outcome.output_dir) / "predictions.npz"
    cases = GraphTask.read_cases(path, ["f1_micro"])
    values = cases.values["f1_micro"]
    assert len(values) == int(task.dataset.test_mask.sum())
    assert set(values.tolist()) <= {0.0, 1.0}
    assert values.mean() == pytest.approx(outcome.metrics["test/f1_micro"])


def test_the_saved_encoder_embeds_the_same(outcome: Outcome, task: GraphTask) -> None:
    encoder = load_encoder(Path(outcome.output_dir) / "model")
    assert not encoder.training
    method: Any = task.build(task.config)
    start = method.embed()
    method.encoder.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        z = encoder(task.dataset.x, task.dataset.edge_index)
    torch.testing.assert_close(method.embed(), z, atol=1e-5, rtol=1e-5)
    assert float(z.norm(dim=1).mean()) == pytest.approx(outcome.metrics["test/z_norm"], rel=1e-5)
    assert not torch.allclose(start, z)
    rows = np.array([5, 2, 40])
    assert torch.equal(task.embed(method, rows), method.embed()[rows])


def test_the_probe_is_the_configured_one(words: list[str], tmp_path: Path) -> None:
    swapped, linear = (
        train("graph.pot", [*words, f"probe={probe}", f"output_dir={tmp_path / probe}"], quiet=True)
        for probe in ("official-swapped", "linear")
    )
    for one in (swapped, linear):
        assert 0 <= one.metrics["test/f1_micro"] <= 1
    # Published protocol: the step is chosen on the test nodes and the validation nodes are reported.
    entry = METHODS["graph.pot"]
    task: Any = Subject(entry, tuple(words)).task
    data = task.dataset
    for one, probe, selects, measured in (
        (swapped, "official-swapped", data.test_mask, data.val_mask),
        (linear, "linear", data.val_mask, data.test_mask),
    ):
        method: Any = task.build(task.config)
        method.encoder.load_state_dict(load_encoder(tmp_path / probe / "model").state_dict())
        z = method.embed()
        rng = generator(task.config.seed, "probe")
        predicted = linear_probe(z, data.y, data.train_mask, selects, generator=rng)
        right = (predicted == data.y)[measured]
        assert one.metrics["test/f1_micro"] == pytest.approx(float(right.double().mean()))
        cases = GraphTask.read_cases(tmp_path / probe / "predictions.npz", ["f1_micro"])
        assert cases.values["f1_micro"].astype(bool).tolist() == right.tolist()
    assert swapped.metrics["test/f1_micro"] == swapped.metrics["val/f1_micro"]


@pytest.mark.parametrize("damage", ["cut", "other", "json", "no weights", "no description", "arguments"])
def test_a_damaged_encoder_is_refused(outcome: Outcome, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(Path(outcome.output_dir) / "model", folder)
    weights, description = folder / "model.safetensors", folder / "encoder.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif damage == "other":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    elif damage == "json":
        description.write_text(description.read_text()[:-9])
    elif damage == "arguments":
        found = json.loads(description.read_text())
        found["arguments"]["dim"] += 1
        description.write_text(json.dumps(found))
    else:
        (weights if damage == "no weights" else description).unlink()
    with pytest.raises(DataError, match="model"):
        load_encoder(folder)


@pytest.mark.parametrize("damage", ["cut", "text", "gone", "other"])
def test_damaged_predictions_are_refused(outcome: Outcome, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "predictions.npz"
    content = (Path(outcome.output_dir) / "predictions.npz").read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "other":
        np.savez(path, right=np.ones(3))
    with pytest.raises(DataError, match=r"predictions\.npz"):
        GraphTask.read_cases(path, ["f1_micro"])
