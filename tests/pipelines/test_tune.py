"""A whole search on toy data: trials, their record, the honest end, and going on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nearfar.config import RunConfig
from nearfar.errors import ConfigError, DivergedError, PreemptedError
from nearfar.pipelines.cli import run
from nearfar.pipelines.registry import methods
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.tune import tune
from nearfar.tracking import open_store
from nearfar.tuning import open_storage

pytestmark = pytest.mark.usefixtures("own_store")

Words = list[str]
pytest.importorskip("optuna", reason="optuna is not installed")


@pytest.fixture
def words(toy_file: Path, tiny: Words) -> Words:
    """A model that trains in a tenth of a second."""
    return [word for word in tiny if not word.startswith("dim")] + [f"data={toy_file}", "max_length=10"]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """Two settings."""
    path = tmp_path / "data" / "space.yaml"
    path.write_text("optim.lr: {low: 1e-4, high: 1e-2, log: true}\ndim: [8, 16, 64]\n", encoding="utf-8")
    return path


def test_a_search_from_the_command_line(
    words: Words, space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", "recsys.sasrec", *words, "--space", str(space), "--trials", "3", "--trial-seeds", "2"]
    command += ["--seeds", "2", "--study", "s", "--json", "-q"]
    assert run(command) == 0
    first = capsys.readouterr().out
    record = json.loads(first)
    assert record["trials"] == {"complete": 3}
    assert set(record["best_params"]) == {"optim.lr", "dim"}
    assert record["metrics"]["test/ndcg_at_10_n"] == record["default_metrics"]["test/ndcg_at_10_n"] == 2
    recipe = yaml.safe_load(Path(record["recipe"]).read_text())
    assert recipe["optim"]["lr"] == record["best_params"]["optim.lr"]

    study = open_storage(None, "s").create_study(direction="maximize", metric="x", pruner=None)
    trials = study.get_trials()
    assert max(trial.value for trial in trials) == record["best_value"]
    assert trials[0].params["optim.lr"] == 1e-3, "the first trial is what one has without searching"
    # Mean over seeds, reported at (seed index * epochs + epoch), the untrained method included.
    assert sorted(trials[1].intermediate_values) == [0, 1, 2, 3, 4]

    store = open_store()
    parent = store.client.get_run(record["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["nearfar.kind"] == "hpo"
    names = {file.path for file in store.client.list_artifacts(record["run_id"], "plots")}
    assert "plots/history.png" in names
    experiment = parent.info.experiment_id
    below = _children(store, experiment, record["run_id"])
    kinds = sorted(child.data.tags["nearfar.kind"] for child in below)
    assert kinds == ["group", "group", "trial", "trial", "trial"]
    trial = next(child for child in below if child.data.tags.get("nearfar.trial") == "1")
    assert trial.data.params["dim"] in ("8", "16", "64")
    members = _children(store, experiment, trial.info.run_id)
    assert {member.data.tags["nearfar.seed"] for member in members} == {"0", "1"}
    assert not any(name.startswith("test/") for member in members for name in member.data.metrics)
    finals = [
        member
        for group in below
        if group.data.tags["nearfar.kind"] == "group"
        for member in _children(store, experiment, group.info.run_id)
    ]
    assert {member.data.tags["nearfar.seed"] for member in finals} == {"1000", "1001"}
    assert not list((tmp_path / "outputs").glob("toy/tune-s/*/*/checkpoints"))

    before = len(store.client.search_runs([experiment], max_results=1000))
    assert run(command) == 0, "a finished search answers again"
    assert capsys.readouterr().out == first
    assert len(store.client.search_runs([experiment], max_results=1000)) == before

    changed = [word.replace("max_length=10", "max_length=9") for word in command]
    assert run(changed) == 2
    assert "settings.max_length: 10 -> 9" in capsys.readouterr().err
    space.write_text("dim: [8, 16]\n")
    assert run(command) == 2
    message = capsys.readouterr().err
    assert "space.optim.lr" in message
    assert "begin another one with --study NAME" in message


def _children(store: Any, experiment: str, run_id: str) -> list[Any]:
    mine = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return list(store.client.search_runs([experiment], filter_string=mine))


@pytest.mark.slow
def test_a_search_that_finds_nothing_better(words: Words, space: Path) -> None:
    """The best trial is the usual settings: they are measured once and stand on both sides."""
    outcome = tune(
        "recsys.sasrec",
        [*words, "tracking.enabled=false"],
        trials=1,
        trial_seeds=1,
        seeds=2,
        workers=2,
        study="same",
        space_file=space,
        quiet=True,
    )
    assert outcome.metrics == outcome.default_metrics
    assert outcome.metrics["test/ndcg_at_10_n"] == 2


@pytest.mark.parametrize(("given", "held"), [([], 0.2), (["validation=0.3"], 0.3)])
def test_trials_alone_hold_labels_out(given: Words, held: float, tmp_path: Path) -> None:
    """A method may say what trials have and the final runs have not; what the user gives counts for both."""
    space = tmp_path / "space.yaml"
    space.write_text("mixup: [0.0, 1.0]\n", encoding="utf-8")
    words = [*methods()["calibration.erm"].load("example")(tmp_path / "data"), "epochs=1", *given]
    tune(
        "calibration.erm",
        [*words, "tracking.enabled=false"],
        trials=1,
        trial_seeds=1,
        seeds=1,
        study="held",
        space_file=space,
        quiet=True,
    )
    found = {
        path.parent.parent.name.startswith("trial-"): yaml.safe_load(path.read_text())["validation"]
        for path in Path("outputs").rglob("config.yaml")
    }
    assert found == {True: held, False: (given and held) or 0.0}


def test_a_search_without_final_runs(words: Words, space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "recsys.sasrec", *words, "--space", str(space), "--trials", "1", "--trial-seeds", "1"]
    assert run([*command, "--seeds", "0", "-q"]) == 0
    printed = capsys.readouterr().out
    assert "best on validation" in printed
    assert "without the search" not in printed


def test_diverged_and_pruned_trials_are_no_failures(
    words: Words, space: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import nearfar.pipelines.trials as module

    real, calls = module.__dict__["train"], [0]

    def train(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise DivergedError("step 3: train/loss = nan")
        return real(*args, **options)

    monkeypatch.setattr(module, "train", train)
    outcome = tune(
        "recsys.sasrec",
        [*words, "tracking.enabled=false"],
        trials=3,
        trial_seeds=1,
        seeds=1,
        study="d",
        space_file=space,
    )
    assert outcome.trials == {"complete": 2, "pruned": 1}
    assert outcome.run_id is None
    assert "trial 2/3 pruned: diverged: step 3" in capsys.readouterr().err


def test_a_trial_that_was_cut_short_and_repeated_is_one_that_ended(
    words: Words, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nearfar.pipelines.trials as module

    def search() -> dict[str, int]:
        given = [*words, "tracking.enabled=false"]
        outcome = tune("recsys.sasrec", given, trials=2, trial_seeds=1, seeds=0, study="p", space_file=space)
        return outcome.trials

    def stopped(*args: Any, **options: Any) -> Any:
        raise PreemptedError("stopped (SIGTERM)")

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", stopped)
        with pytest.raises(PreemptedError):
            search()
    assert search() == {"complete": 2}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["dim=8"], "dim: given as a setting and searched as well"),
        (["output_dir=x"], "output_dir: a search makes a folder for each trial"),
    ],
)
def test_contradictions_are_refused(words: Words, space: Path, extra: Words, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune("recsys.sasrec", [*words, *extra, "tracking.enabled=false"], space_file=space)


def test_a_method_without_a_space(toy_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"recsys.popularity has no space"):
        tune("recsys.popularity", [f"data={toy_file}", "tracking.enabled=false"])


@pytest.mark.parametrize("name", [name for name, entry in methods().items() if entry.space])
def test_every_space_fits_its_method(name: str) -> None:
    entry = methods()[name]
    config: RunConfig = resolve_settings(entry, [], environment={})
    entry.load("space").check(config)
