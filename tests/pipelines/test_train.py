"""Runs from start to end: what they leave, what they repeat, how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nearfar.errors import ConfigError, DivergedError, StorageError
from nearfar.optional import installed
from nearfar.pipelines.cli import run as command_line
from nearfar.pipelines.ends import translate
from nearfar.pipelines.registry import find
from nearfar.pipelines.seeds import Job, run_jobs, summarise
from nearfar.pipelines.train import train
from nearfar.recsys import Recommender
from nearfar.recsys.sasrec.method import SASRec
from nearfar.tracking import open_store
from nearfar.training import StepContext, StepOutput

pytestmark = pytest.mark.skipif(not installed("mlflow"), reason="mlflow is not installed")


def test_a_run_leaves_everything_in_its_folder_and_in_the_store(
    toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: list[str]
) -> None:
    outcome = train("recsys.mclrec", [*tiny, f"data={toy_file}", "contrast.rows=8"], quiet=True)
    folder = Path(outcome.output_dir)
    assert folder.parent == tmp_path / "outputs" / "toy"
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "curves.csv",
        "curves.png",
        "environment.json",
        "model",
        "outbox.jsonl",
        "outbox.sent",
        "ranks.npz",
        "run.json",
    }
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert yaml.safe_load((folder / "config.yaml").read_text())["contrast"]["rows"] == 8
    assert len(Recommender.load(folder / "model", "cpu").recommend(["u1"], k=3)) == 3

    store = open_store()
    run = store.client.get_run(outcome.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "recsys.mclrec-s0"
    assert store.client.get_experiment(run.info.experiment_id).name == "nearfar/recsys/toy"
    assert run.data.params["contrast.rows"] == "8"
    assert run.data.tags["nearfar.kind"] == "train"
    assert run.data.tags["nearfar.data.users"] == "40"
    assert (
        run.data.metrics.items()
        >= {n: v for n, v in outcome.metrics.items() if n.startswith("test/")}.items()
    )
    steps = {m.step for m in store.client.get_metric_history(outcome.run_id, "train/cl1")}
    assert steps == set(range(2 * (max(steps) + 1) // 2))
    validations = store.client.get_metric_history(outcome.run_id, "val/ndcg_at_10")
    assert len({m.step for m in validations}) == 3  # untrained and two epochs
    names = {artifact.path for artifact in store.client.list_artifacts(outcome.run_id, "curves")}
    assert names == {"curves/curves.csv", "curves/curves.png"}

    import mlflow
    import pandas as pd

    assert "MLFLOW_TRACKING_URI" not in os.environ, "a run must not redirect the next one"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    models = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    served = mlflow.pyfunc.load_model(models[0].model_uri)
    answer = served.predict(pd.DataFrame({"history": [["i1", "i2"]]}), params={"k": 2})
    assert len(answer["items"][0]) == 2


def test_test_metrics_are_quality_only(toy_file: Path) -> None:
    outcome = train("recsys.popularity", [f"data={toy_file}", "tracking.enabled=false"], quiet=True)
    assert outcome.run_id is None
    families = {name.split("/")[0] for name in outcome.metrics}
    assert families == {"val", "test", "perf"}
    assert all(0 <= value <= 1 for name, value in outcome.metrics.items() if not name.startswith("perf/"))
    assert not Path("mlruns").exists()


DIGEST = """
import hashlib, sys, torch
from nearfar.pipelines.train import train
from nearfar.training import CheckpointStore
from pathlib import Path
outcome = train("recsys.mclrec", sys.argv[1:], quiet=True)
store = CheckpointStore(Path(outcome.output_dir) / "checkpoints")
last = store.load(store.steps()[-1])
digest = hashlib.sha256()
for tensor in last.method.values():
    digest.update(tensor.numpy().tobytes())
for state in last.optimizers["main"]["state"].values():
    digest.update(state["exp_avg"].numpy().tobytes())
digest.update((Path(outcome.output_dir) / "curves.csv").read_bytes().split(b"perf/")[0])
print(digest.hexdigest(), sorted((k, v) for k, v in outcome.metrics.items() if k.startswith("test")))
"""


@pytest.mark.row("D01")
def test_one_seed_gives_the_same_bits_in_separate_processes(
    toy_file: Path, tmp_path: Path, tiny: list[str]
) -> None:
    """D01: weights, optimiser state, every logged loss and the test metrics."""

    def once(seed: int, hash_seed: str, place: str) -> str:
        words = [*tiny, f"data={toy_file}", "contrast.rows=8", "tracking.enabled=false", f"seed={seed}"]
        words.append(f"output_dir={tmp_path / place}")
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        answer = subprocess.run(
            [sys.executable, "-c", DIGEST, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout

    first, second, other = once(0, "1", "a"), once(0, "2", "b"), once(1, "1", "c")
    assert first == second
    assert first.split()[0] != other.split()[0]


def test_seeds_form_a_group(toy_file: Path, tiny: list[str]) -> None:
    job = Job("recsys.sasrec", (*tiny, f"data={toy_file}", "seed=5"), seeds=3)
    lines: list[str] = []
    group = run_jobs([job], workers=2, report=lines.append)[0]
    assert len(group.outcomes) == len(lines) == 3
    values = [outcome.metrics["test/ndcg_at_10"] for outcome in group.outcomes]
    assert len(set(values)) > 1
    summary = group.summary()
    assert summary["test/ndcg_at_10_mean"] == pytest.approx(sum(values) / 3)
    assert summary["test/ndcg_at_10_n"] == 3
    store = open_store()
    parent = store.client.get_run(group.run_id)
    assert parent.data.tags["nearfar.kind"] == "group"
    assert parent.data.metrics["test/ndcg_at_10_mean"] == summary["test/ndcg_at_10_mean"]
    children = [store.client.get_run(outcome.run_id) for outcome in group.outcomes]
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {group.run_id}
    assert [child.data.params["seed"] for child in children] == ["5", "6", "7"]


def test_a_seed_alone_equals_the_seed_in_a_group(toy_file: Path, tmp_path: Path, tiny: list[str]) -> None:
    words = (*tiny, f"data={toy_file}", "tracking.enabled=false", f"output_dir={tmp_path / 'out'}")
    group = run_jobs([Job("recsys.sasrec", words, seeds=2)], quiet=True)[0]
    assert [Path(o.output_dir).name for o in group.outcomes] == ["s0", "s1"]
    alone = train("recsys.sasrec", [*words, "seed=1", f"output_dir={tmp_path / 'alone'}"], quiet=True)
    quality = {name: value for name, value in alone.metrics.items() if not name.startswith("perf/")}
    assert group.outcomes[1].metrics.items() >= quality.items()


def test_summarise() -> None:
    rows = [{"a": 1.0, "b": 0.0}, {"a": 3.0}]
    assert summarise(rows) == {"a_mean": 2.0, "a_n": 2.0, "a_std": pytest.approx(2**0.5)}
    assert summarise([{"a": 1.0}])["a_std"] == 0


def test_divergence_ends_the_run_as_such(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: list[str]
) -> None:
    original = SASRec.step

    def poisoned(self: SASRec, batch: Any, ctx: StepContext) -> StepOutput:
        output = original(self, batch, ctx)
        return StepOutput(output.loss * (torch.nan if ctx.step == 7 else 1), output.terms)

    monkeypatch.setattr(SASRec, "step", poisoned)
    assert command_line(["train", "recsys.sasrec", *tiny, f"data={toy_file}", "-q"]) == 4
    about_data, line = capsys.readouterr().err.splitlines()
    assert "25 of 40 histories are longer than max_length=10" in about_data
    assert line.startswith("nearfar: error: step 7: ")
    store = open_store()
    run = store.client.search_runs([store.experiment("nearfar/recsys/toy")])[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["nearfar.status_reason"].startswith("diverged: step 7")
    record = json.loads(next(Path("outputs").rglob("run.json")).read_text())
    assert record["status"] == "diverged"
    assert not next(Path("outputs").rglob("run.json")).with_name("model").exists()


def test_interruption_ends_the_run_as_killed(
    toy_file: Path, monkeypatch: pytest.MonkeyPatch, tiny: list[str]
) -> None:
    def interrupt(self: SASRec, batch: Any, ctx: StepContext) -> StepOutput:
        raise KeyboardInterrupt

    monkeypatch.setattr(SASRec, "step", interrupt)
    assert command_line(["train", "recsys.sasrec", *tiny, f"data={toy_file}", "-q"]) == 130
    store = open_store()
    run = store.client.search_runs([store.experiment("nearfar/recsys/toy")])[0]
    assert run.info.status == "KILLED"


def test_a_second_run_replaces_the_first_but_never_strangers_files(
    toy_file: Path, tmp_path: Path, tiny: list[str]
) -> None:
    words = [*tiny, f"data={toy_file}", "tracking.enabled=false", f"output_dir={tmp_path / 'out'}"]
    first = train("recsys.sasrec", words, quiet=True)
    again = train("recsys.sasrec", words, quiet=True)
    assert {k: v for k, v in first.metrics.items() if "perf" not in k} == {
        k: v for k, v in again.metrics.items() if "perf" not in k
    }
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="files that are not a run's .thesis.tex"):
        train("recsys.sasrec", words, quiet=True)
    assert (tmp_path / "out" / "model").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="output_dir: .*cannot be written"):
        train("recsys.sasrec", [*words, f"output_dir={tmp_path / 'file' / 'x'}"], quiet=True)


def test_errors_of_torch_and_the_system_get_their_exit_codes() -> None:
    memory = translate(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"))
    assert memory.exit_code == 5  # type: ignore[attr-defined]
    assert "lower the batch size" in str(memory)
    assert translate(MemoryError()).exit_code == 5  # type: ignore[attr-defined]
    disk = translate(OSError(28, "No space left on device", "x.ckpt"))
    assert disk.exit_code == 6  # type: ignore[attr-defined]
    other = ValueError("something else")
    assert translate(other) is other
    assert DivergedError.exit_code == 4


@pytest.mark.parametrize("method", ["graph.pot", "timeseries.autotcl", "calibration.rcal", "longtail.supcon"])
def test_plots_are_left_out_where_nobody_looks(method: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = [*find(method).load("example")(tmp_path), "tracking.enabled=false"]
    drawn, plain = tmp_path / "drawn", tmp_path / "plain"
    with_plots = train(method, [*words, f"output_dir={drawn}"], quiet=True)
    without = train(method, [*words, f"output_dir={plain}", "tracking.plots=false"], quiet=True)
    assert len(list(drawn.glob("*.png"))) > 1
    assert not list(plain.rglob("*.png"))
    measured = [name for name in with_plots.metrics if not name.startswith("perf/")]
    assert {n: with_plots.metrics[n] for n in measured} == {n: without.metrics[n] for n in measured}
