"""A trained run used again: measured, exported, profiled; and what is said when it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import CheckpointError, ConfigError
from nearfar.pipelines.cli import run
from nearfar.pipelines.train import Outcome, train
from nearfar.pipelines.trained import evaluate, export, load
from nearfar.recsys import Recommender

pytestmark = pytest.mark.usefixtures("own_store")

Words = list[str]


@pytest.fixture
def trained(toy_file: Path, tiny: Words) -> Outcome:
    """A finished run of two epochs, without a store."""
    return train("recsys.sasrec", [*tiny, f"data={toy_file}", "tracking.enabled=false"], quiet=True)


def test_evaluation_repeats_the_figures_of_training(
    trained: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("val", "test"):
        figures = {name: value for name, value in trained.metrics.items() if name.startswith(f"{split}/")}
        assert evaluate(trained.output_dir, split=split, device="cpu") == figures
    assert run(["evaluate", trained.output_dir, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["metrics"]["test/ndcg_at_10"] == trained.metrics["test/ndcg_at_10"]
    assert run(["evaluate", trained.output_dir, "--split", "val"]) == 0
    assert "val/ndcg_at_10" in capsys.readouterr().out


def test_weights_are_those_of_the_best_validation(trained: Outcome) -> None:
    found = load(trained.output_dir, device="cpu")
    assert f"{found.task.evaluate(found.method, 'val')['ndcg_at_10']:.9f}" == (
        f"{trained.metrics['val/ndcg_at_10']:.9f}"
    )
    assert not found.method.training


def test_export_gives_the_model_of_the_run(trained: Outcome, tmp_path: Path) -> None:
    assert run(["export", trained.output_dir, str(tmp_path / "there" / "model")]) == 0
    copy = Recommender.load(tmp_path / "there" / "model", "cpu").recommend(["u1", "u2"], k=4)
    original = Recommender.load(Path(trained.output_dir) / "model", "cpu").recommend(["u1", "u2"], k=4)
    assert copy.equals(original)
    with pytest.raises(ConfigError, match="is not empty; name a new folder"):
        export(trained.output_dir, tmp_path / "there" / "model")


@pytest.mark.slow
def test_export_as_graphs(
    trained: Outcome, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "graphs"
    assert run(["export", trained.output_dir, str(folder), "--format", "torch"]) == 0
    program = torch.export.load(folder / "scores.pt2").module()
    encoder: Any = load(trained.output_dir, device="cpu").method.scorer
    scores = program(torch.tensor([[3, 1, 2]]), torch.tensor([2]))
    assert torch.allclose(scores, encoder.score([np.array([3, 1, 2])]), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="is not empty; name a new folder"):
        export(trained.output_dir, folder, form="onnx")
    floor = train("recsys.popularity", [f"data={toy_file}", "tracking.enabled=false"], quiet=True)
    assert run(["export", floor.output_dir, str(tmp_path / "none"), "--format", "torch"]) == 2
    assert "a model of type ItemCounts has no graph; export it as safetensors" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_run_is_found_by_its_id(toy_file: Path, tiny: Words) -> None:
    outcome = train("recsys.sasrec", [*tiny, f"data={toy_file}", "epochs=1"], quiet=True)
    assert outcome.run_id is not None
    assert load(outcome.run_id, device="cpu").folder.path == Path(outcome.output_dir)
    with pytest.raises(ConfigError, match="there is no run 'abc'"):
        load("abc")


def lose_checkpoints(folder: Path, data: Path) -> None:
    for path in (folder / "checkpoints").iterdir():
        path.unlink()


def change_data(folder: Path, data: Path) -> None:
    with data.open("a") as file:
        file.write("u1\ti3\t99\n")


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lose_checkpoints, CheckpointError, "holds no checkpoint; train the run again"),
        (change_data, CheckpointError, "was trained on other data"),
        (lambda folder, _: (folder / "run.json").unlink(), ConfigError, "does not say which method"),
        (lambda folder, _: (folder / "config.yaml").unlink(), ConfigError, "is not the folder of a run"),
    ],
)
def test_what_cannot_be_used_is_said(
    trained: Outcome,
    toy_file: Path,
    harm: Callable[[Path, Path], object],
    error: type[Exception],
    message: str,
) -> None:
    harm(Path(trained.output_dir), toy_file)
    with pytest.raises(error, match=message):
        evaluate(trained.output_dir)


def test_an_unknown_split_is_refused(trained: Outcome) -> None:
    with pytest.raises(ConfigError, match="split: val or test expected, got 'train'"):
        evaluate(trained.output_dir, split="train")


def test_profile_writes_a_trace(
    toy_file: Path, tiny: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "traces" / "trace.json"
    assert (
        run(["profile", "recsys.mclrec", *tiny, f"data={toy_file}", "--steps", "2", "--trace", str(trace)])
        == 0
    )
    assert "aten::" in capsys.readouterr().out
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"batch", "step"} <= names
