"""Runs from start to end: metrics, files, the saved classifier, rows held out, labels as they are."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.calibration import load_classifier
from nearfar.calibration.registry import METHODS
from nearfar.calibration.task import CalibrationTask
from nearfar.data.predictions import TestPredictions
from nearfar.errors import DataError
from nearfar.labels import balanced_accuracy
from nearfar.optional import installed
from nearfar.pipelines.train import Outcome, prepare, train
from nearfar.runtime import Runtime

pytest.importorskip("sklearn")

Write = Callable[..., Path]
QUIET = ("tracking.enabled=false", "device=cpu")
QUICK = (
    "epochs=3",
    "batch_size=16",
    "head_lr=0.1",
    "optim.lr=0.01",
    "pretrain.epochs=1",
    "pretrain.dim=8",
    "selection.every=2",
    "gaussians.outlier=knn",
    "gaussians.keep=0.7",
)


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The example of the registry, both stages."""
    example: Any = METHODS["calibration.rcal"].load("example")
    words = example(tmp_path_factory.mktemp("data"))
    place = tmp_path_factory.mktemp("runs") / "bars"
    return train("calibration.rcal", [*words, *QUIET, f"output_dir={place}"], quiet=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def task_of(outcome: Outcome) -> CalibrationTask:
    _, _, task = prepare("calibration.rcal", config_file=Path(outcome.output_dir) / "config.yaml")
    assert isinstance(task, CalibrationTask)
    return task


def run(method: str, *words: str) -> Outcome:
    return train(f"calibration.{method}", [*words, *QUIET, "output_dir=run"], quiet=True)


def test_metrics(bars: Outcome) -> None:
    """What is measured, and that it is what it says."""
    task, metrics = task_of(bars), bars.metrics
    found = TestPredictions.read(Path(bars.output_dir) / "predictions.npz")
    y, predicted = task.dataset.y_test, torch.from_numpy(found.predicted)
    assert metrics["test/accuracy"] == pytest.approx(float((predicted == y).double().mean()))
    assert metrics["test/balanced_accuracy"] == pytest.approx(balanced_accuracy(y, predicted))
    assert {"val/accuracy", "val/balanced_accuracy"} <= set(metrics)
    training = task.training
    assert training.true is not None
    right = training.given == training.true
    assert metrics["test/purity"] == pytest.approx(float(right.double().mean()))
    assert 0 < metrics["test/purity"] < 1
    for name in ("purity_tail", "purity_kept", "purity_kept_tail", "kept_share"):
        assert 0 <= metrics[f"test/{name}"] <= 1
    suspects = {int(row["row"]) for row in table(Path(bars.output_dir) / "suspects.csv")}
    kept = torch.tensor([row not in suspects for row in training.rows.tolist()])
    assert metrics["test/kept_share"] == pytest.approx(float(kept.double().mean()))
    assert metrics["test/purity_kept"] == pytest.approx(float(right[kept].double().mean()))
    both = int((~kept & ~right).sum())
    assert metrics["test/suspect_precision"] == pytest.approx(both / int((~kept).sum()))
    assert metrics["test/suspect_recall"] == pytest.approx(both / int((~right).sum()))
    sizes = training.counts(3).tolist()
    for name, part in (
        ("many", [k for k in range(3) if sizes[k] > 100]),
        ("medium", [k for k in range(3) if 20 <= sizes[k] <= 100]),
        ("few", [k for k in range(3) if sizes[k] < 20]),
    ):
        assert (f"test/{name}" in metrics) == bool(part)
        if part:
            recalls = [float((predicted[y == k] == k).double().mean()) for k in part]
            assert metrics[f"test/{name}"] == pytest.approx(np.mean(recalls))


def test_the_table_of_classes(bars: Outcome) -> None:
    """Rows, purity, kept rows, donors and recall of each."""
    task, lines = task_of(bars), table(Path(bars.output_dir) / "classes.csv")
    names = ["class", "rows", "purity", "kept", "purity_kept", "donors", "weights", "recall"]
    assert list(lines[0]) == names
    assert [line["class"] for line in lines] == [str(name) for name in task.dataset.classes]
    assert [int(line["rows"]) for line in lines] == task.training.counts(3).tolist()
    training, suspects = task.training, table(Path(bars.output_dir) / "suspects.csv")
    assert training.true is not None
    for k, line in enumerate(lines):
        mine = training.given == k
        assert float(line["purity"]) == pytest.approx(
            float((training.true[mine] == k).double().mean()), abs=1e-4
        )
        lost = sum(row["given"] == line["class"] for row in suspects)
        assert int(line["kept"]) == int(mine.sum()) - lost
        weights = [float(weight) for weight in line["weights"].split()]
        assert len(weights) == len(line["donors"].split())
        assert not weights or sum(weights) == pytest.approx(1, abs=2e-3)
    assert any(line["donors"] for line in lines), "a tail class should borrow"
    recalls = [float(line["recall"]) for line in lines]
    assert np.mean(recalls) == pytest.approx(bars.metrics["test/balanced_accuracy"], abs=1e-4)


def test_the_table_of_suspects(bars: Outcome) -> None:
    """Each is a training row with its label as given and the right one, where it lies in the file of the user."""
    task, lines = task_of(bars), table(Path(bars.output_dir) / "suspects.csv")
    training = task.training
    assert lines
    place = {row: number for number, row in enumerate(training.rows.tolist())}
    classes = {str(name): number for number, name in enumerate(task.dataset.classes)}
    assert training.true is not None
    for line in lines:
        at = place[int(line["row"])]
        assert classes[line["given"]] == int(training.given[at])
        assert classes[line["true"]] == int(training.true[at]) == int(task.dataset.y_train[int(line["row"])])
        assert line["predicted"] in classes
    assert len({line["row"] for line in lines}) == len(lines)


@pytest.mark.skipif(not installed("matplotlib"), reason="pictures need matplotlib")
def test_pictures(bars: Outcome) -> None:
    """Written as PNG."""
    for name in ("confusion.png", "donors.png"):
        assert (Path(bars.output_dir) / name).read_bytes().startswith(b"\x89PNG")


def test_the_saved_classifier_predicts_the_same(bars: Outcome) -> None:
    """As the run did; its representations are those of the task."""
    task, folder = task_of(bars), Path(bars.output_dir)
    classifier = load_classifier(folder / "model", "cpu")
    predicted = TestPredictions.read(folder / "predictions.npz").predicted
    assert classifier.classes == tuple(task.dataset.classes)
    assert classifier.predict(task.dataset.x_test).tolist() == [classifier.classes[k] for k in predicted]
    method: Any = task.build(task.config)
    method.encoder.load_state_dict(classifier.encoder.state_dict())
    rows = np.arange(5)
    expected = classifier.represent(task.dataset.x_train[task.training.rows[:5]])
    torch.testing.assert_close(task.embed(method, rows), expected)
    assert task.num_rows == len(task.training.rows)


def test_cases_of_a_run(bars: Outcome) -> None:
    """Whether each test row was right; the same cases whatever is wrong with training labels."""
    cases = CalibrationTask.read_cases(Path(bars.output_dir) / "predictions.npz", ["accuracy"])
    assert cases.unit == "rows"
    assert cases.values["accuracy"].mean() == pytest.approx(bars.metrics["test/accuracy"])


def test_the_card_says_how_data_are_spoilt(bars: Outcome) -> None:
    """Another rate is another data set, another seed is not."""
    file = f"data={task_of(bars).dataset.source}"

    def card(*words: str) -> Any:
        return prepare("calibration.rcal", [file, *QUICK, *words])[2].card

    first = card("noise.rate=0.2", "imbalance.ratio=3")
    assert first.name == "bars-exp3-imb0.2"
    assert card("noise.rate=0.2", "imbalance.ratio=3", "seed=5").digest == first.digest
    others = [
        card(*words)
        for words in (
            ("noise.rate=0.3", "imbalance.ratio=3"),
            ("noise.rate=0.2", "imbalance.ratio=4"),
            ("noise.rate=0.2", "imbalance.ratio=3", "noise.kind=sym"),
            ("noise.rate=0.2", "imbalance.ratio=3", "imbalance.largest=20"),
            ("spoil=false",),
        )
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 6
    assert others[-1].name == "bars"


@pytest.mark.parametrize("method", ["erm", "balanced_softmax"])
def test_baselines_on_the_example(method: str, tmp_path: Path) -> None:
    """They trust every label: no suspects, no donors."""
    example: Any = METHODS[f"calibration.{method}"].load("example")
    found = run(method, *example(tmp_path / "data"), "epochs=3")
    folder = Path(found.output_dir)
    assert {"test/accuracy", "test/balanced_accuracy", "test/purity"} <= set(found.metrics)
    assert "test/kept_share" not in found.metrics
    assert (folder / "classes.csv").exists()
    assert not (folder / "suspects.csv").exists()
    assert not (folder / "donors.png").exists()
    assert [line["kept"] for line in table(folder / "classes.csv")] == [""] * 3


def test_rows_held_out_are_never_trained_on(write_npz: Write, cpu: Runtime) -> None:
    """Not in a batch of either stage, not among what is kept; they are what validation looks at."""
    words = [f"data={write_npz()}", *QUICK, "validation=0.25", "imbalance.ratio=2", *QUIET]
    _, config, task = prepare("calibration.rcal", words)
    assert isinstance(task, CalibrationTask)
    training, data = task.training, task.dataset
    assert len(training.held) > 3
    assert not set(training.rows.tolist()) & set(training.held.tolist())
    assert task.card.counts["held"] == len(training.held)
    source: Any = task.batches(config, cpu)
    held = {tuple(row) for row in data.x_train[training.held].tolist()}
    seen = [tuple(row) for step in range(3 * source.steps_per_epoch) for row in source.batch(step).x.tolist()]
    assert {tuple(row) for row in data.x_train[training.rows].tolist()} == set(seen)
    assert not held & set(seen)
    method: Any = task.build(config)
    assert len(method.anchor) == len(training.rows)
    with torch.no_grad():
        predicted = method.eval().head(method.encoder(data.x_train[training.held])).argmax(1)
    expected = float((predicted == training.held_given).double().mean())
    assert task.evaluate(method, "val")["accuracy"] == pytest.approx(expected)


def test_without_rows_held_out_validation_is_on_training_rows(write_npz: Write) -> None:
    """Under their labels as given."""
    words = [f"data={write_npz()}", *QUICK, "validation=0", *QUIET]
    _, config, task = prepare("calibration.rcal", words)
    assert isinstance(task, CalibrationTask)
    method: Any = task.build(config)
    training = task.training
    with torch.no_grad():
        predicted = method.eval().head(method.encoder(task.dataset.x_train[training.rows])).argmax(1)
    expected = float((predicted == training.given).double().mean())
    assert task.evaluate(method, "val")["accuracy"] == pytest.approx(expected)


def test_labels_as_they_are(write_npz: Write) -> None:
    """Nothing is known of which are right, so nothing is said of it; text labels come back."""
    names = np.array(["ant", "bee", "cat"])
    path = write_npz(y_train=names[np.repeat(np.arange(3), 20)], y_test=names[np.repeat(np.arange(3), 6)])
    found = run("rcal", f"data={path}", *QUICK, "spoil=false", "epochs=12")
    assert not any("purity" in name or "suspect" in name for name in found.metrics)
    assert "test/kept_share" not in found.metrics
    folder = Path(found.output_dir)
    suspects = table(folder / "suspects.csv")
    assert {line["given"] for line in suspects} <= set(names)
    assert {line["true"] for line in suspects} <= {""}
    lines = table(folder / "classes.csv")
    assert [int(line["rows"]) for line in lines] == [20, 20, 20]
    assert [line["purity"] for line in lines] == [""] * 3
    assert found.metrics["test/accuracy"] > 0.8
    answer = load_classifier(folder / "model", "cpu").predict(np.load(path)["x_test"])
    assert (answer == np.load(path)["y_test"]).mean() == pytest.approx(found.metrics["test/accuracy"])


def test_right_labels_of_the_user_give_purity(write_npz: Write) -> None:
    """``y_train_true`` is for the report alone: without it predictions are the same."""
    true = np.repeat(np.arange(3), 20)
    given = true.copy()
    given[::5] = (given[::5] + 1) % 3
    told = run("rcal", f"data={write_npz(y_train=given, y_train_true=true)}", *QUICK, "spoil=false")
    predictions = TestPredictions.read(Path(told.output_dir) / "predictions.npz").predicted
    assert told.metrics["test/purity"] == pytest.approx(0.8)
    assert told.metrics["test/purity_kept"] > 0.8
    silent = train(
        "calibration.rcal",
        [f"data={write_npz('toy', y_train=given)}", *QUICK, "spoil=false", *QUIET, "output_dir=silent"],
        quiet=True,
    )
    other = TestPredictions.read(Path(silent.output_dir) / "predictions.npz").predicted
    assert np.array_equal(predictions, other)


@pytest.mark.parametrize("loss", ["cross_entropy", "balanced_softmax"])
def test_a_class_without_training_rows(write_npz: Write, loss: str) -> None:
    """It is tested, never learnt; its line in the table says so."""
    path = write_npz(y_test=np.repeat([0, 1, 3], 6))
    found = run("rcal", f"data={path}", *QUICK, "spoil=false", f"loss={loss}")
    lines = table(Path(found.output_dir) / "classes.csv")
    assert [line["rows"] for line in lines] == ["20", "20", "20", "0"]
    assert lines[3]["recall"]
    assert lines[2]["recall"] == ""
    assert all(np.isfinite(value) for value in found.metrics.values())


def test_a_gap_in_the_classes_is_no_long_tail(write_npz: Write) -> None:
    """Sizes by class are not defined where a class in the middle has no rows."""
    path = write_npz(y_train=np.repeat([0, 1, 3], 20), y_test=np.repeat([0, 1, 2], 6))
    with pytest.raises(DataError, match="class 2 has no items"):
        run("rcal", f"data={path}", *QUICK, "spoil=true")


def test_a_folder_may_be_used_again(write_npz: Write) -> None:
    """A run leaves nothing in its folder that the next one takes for somebody else's."""
    words = (f"data={write_npz()}", *QUICK, "imbalance.ratio=2", "noise.rate=0.2")
    first = run("rcal", *words)
    assert run("rcal", *words).metrics["test/accuracy"] == first.metrics["test/accuracy"]


def test_a_tail_of_one_row(write_npz: Write) -> None:
    """The smallest class has one row, or loses it to noise."""
    found = run("rcal", f"data={write_npz()}", *QUICK, "imbalance.ratio=20", "noise.rate=0.3")
    assert all(np.isfinite(value) for value in found.metrics.values())


@pytest.mark.parametrize(
    "labels", [np.array(["a", "b", "c"]), np.array([0.5, 1.5, 2.5]), np.array([-3, 5, 9])]
)
def test_labels_of_a_file_survive_export(write_npz: Write, labels: Any) -> None:
    """Text, floats, numbers with gaps."""
    path = write_npz(y_train=np.repeat(labels, 20), y_test=np.repeat(labels, 6))
    found = run("erm", f"data={path}", "epochs=1", "spoil=false")
    classifier = load_classifier(Path(found.output_dir) / "model", "cpu")
    assert classifier.classes == tuple(labels.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, "lacks x_train"),
        ({"x_test": np.zeros((18, 3))}, "rows of one shape expected"),
        ({"x_train": np.full((60, 4), np.nan)}, "row 0 is not finite"),
        (
            {"x_train": np.full((60, 1, 8, 8), 200.0), "x_test": np.zeros((18, 1, 8, 8))},
            "images of floating point",
        ),
        ({"y_train": np.repeat([b"a", b"b", b"c"], 20)}, r"numbers or text, got int64, \|S1"),
    ],
)
def test_bad_files_end_a_run_before_it_begins(
    write_npz: Write, changes: dict[str, Any], message: str
) -> None:
    """With the message of the check, and no folder."""
    with pytest.raises(DataError, match=message):
        run("rcal", f"data={write_npz(**changes)}", *QUICK)
    assert not (Path("run") / "model").exists()
