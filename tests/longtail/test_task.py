"""Runs from start to end: metrics, files, the saved classifier, hidden classes, rows held out."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.adapters import representations
from nearfar.data.predictions import TestPredictions
from nearfar.errors import ConfigError, DataError
from nearfar.labels import balanced_accuracy
from nearfar.longtail import fine_probe, hidden_nmi, load_classifier, subclass_purity
from nearfar.longtail.registry import METHODS
from nearfar.longtail.task import LongTailTask
from nearfar.optional import installed
from nearfar.pipelines.train import Outcome, prepare, train

pytest.importorskip("sklearn")

Write = Callable[..., Path]
QUIET = ("tracking.enabled=false", "device=cpu")
QUICK = ("epochs=3", "batch_size=16", "dim=8", "warmup_epochs=1", "subclasses.every=1", "subclasses.delta=5")


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The example of the registry."""
    example: Any = METHODS["longtail.sbcl"].load("example")
    words = example(tmp_path_factory.mktemp("data"))
    place = tmp_path_factory.mktemp("runs") / "bars"
    return train("longtail.sbcl", [*words, *QUIET, f"output_dir={place}"], quiet=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def task_of(outcome: Outcome) -> LongTailTask:
    _, _, task = prepare("longtail.sbcl", config_file=Path(outcome.output_dir) / "config.yaml")
    assert isinstance(task, LongTailTask)
    return task


def run(method: str, *words: str, place: str = "run") -> Outcome:
    return train(f"longtail.{method}", [*words, *QUIET, f"output_dir={place}"], quiet=True)


def encoder_of(outcome: Outcome) -> Any:
    return load_classifier(Path(outcome.output_dir) / "model", "cpu").encoder


def test_metrics(bars: Outcome) -> None:
    """What is measured is what the functions of these names say of the saved model."""
    task, metrics, data = task_of(bars), bars.metrics, task_of(bars).dataset
    found = TestPredictions.read(Path(bars.output_dir) / "predictions.npz")
    y, predicted = data.y_test, torch.from_numpy(found.predicted)
    assert metrics["test/accuracy"] == pytest.approx(float((predicted == y).double().mean()))
    assert metrics["test/balanced_accuracy"] == pytest.approx(balanced_accuracy(y, predicted))
    encoder, fine = encoder_of(bars), task.training.fine
    assert fine is not None
    assert data.fine_test is not None
    learnt, tested = representations(encoder, task.inputs), representations(encoder, task.tested)
    inside = hidden_nmi(learnt, task.training.given, fine)
    assert metrics["test/hidden_nmi"] == pytest.approx(inside["mean"])
    assert metrics["test/hidden_nmi_largest"] == pytest.approx(inside["by_class"][0])
    assert metrics["test/hidden_nmi_test"] == pytest.approx(hidden_nmi(tested, y, data.fine_test)["mean"])
    probe = fine_probe(learnt, fine, tested, data.fine_test)
    assert metrics["test/fine_probe"] == pytest.approx(probe["balanced_accuracy"])
    rows = table(Path(bars.output_dir) / "subclasses.csv")
    purity = subclass_purity([int(row["subclass"]) for row in rows], [int(row["fine"]) for row in rows])
    assert metrics["test/subclass_purity"] == pytest.approx(purity)


def test_tables(bars: Outcome) -> None:
    """Sizes of subclasses by class; the subclass of every row, where it lies in the file of the user."""
    task, folder = task_of(bars), Path(bars.output_dir)
    rows, classes = table(folder / "subclasses.csv"), table(folder / "classes.csv")
    assert [int(row["row"]) for row in rows] == task.training.rows.tolist()
    assert [int(line["rows"]) for line in classes] == [32, 16]
    for line in classes:
        sizes = np.unique(
            [row["subclass"] for row in rows if row["class"] == line["class"]], return_counts=True
        )[1]
        assert int(line["subclasses"]) == len(sizes)
        assert (int(line["smallest"]), int(line["largest"])) == (sizes.min(), sizes.max())
        assert sizes.max() - sizes.min() <= 1
        assert float(line["temperature"]) > 0.1
    assert [int(line["subclasses"]) for line in classes] == [2, 1]


@pytest.mark.skipif(not installed("matplotlib"), reason="pictures need matplotlib")
def test_pictures(bars: Outcome) -> None:
    """Written as PNG."""
    for name in ("confusion.png", "embeddings.png"):
        assert (Path(bars.output_dir) / name).read_bytes().startswith(b"\x89PNG")


def test_the_saved_classifier_predicts_the_same(bars: Outcome) -> None:
    """As the run did; its representations are those of the task."""
    task, folder = task_of(bars), Path(bars.output_dir)
    classifier = load_classifier(folder / "model", "cpu")
    predicted = TestPredictions.read(folder / "predictions.npz").predicted
    assert classifier.predict(task.dataset.x_test).tolist() == [classifier.classes[k] for k in predicted]
    method: Any = task.build(task.config)
    method.encoder.load_state_dict(classifier.encoder.state_dict())
    expected = classifier.represent(task.dataset.x_train[task.training.rows[:5]])
    torch.testing.assert_close(task.embed(method, np.arange(5)), expected)
    cases = LongTailTask.read_cases(folder / "predictions.npz", ["accuracy"])
    assert cases.values["accuracy"].mean() == pytest.approx(bars.metrics["test/accuracy"])


@pytest.mark.parametrize("kind", ["crt", "ldam_drw", "balanced_softmax", "logit_adjustment", "nearest_mean"])
def test_every_second_stage_is_saved(write_npz: Write, kind: str) -> None:
    """A class without training rows is never predicted, before or after."""
    path = write_npz(y_test=np.repeat([0, 1, 3], 6))
    words = (f"data={path}", *QUICK, f"head.kind={kind}", "head.epochs=4", "copies=2")
    found = run("sbcl", *words)
    assert all(np.isfinite(value) for value in found.metrics.values())
    folder = Path(found.output_dir)
    answer = load_classifier(folder / "model", "cpu").predict(np.load(path)["x_test"])
    assert 3 not in answer
    assert np.array_equal(answer, TestPredictions.read(folder / "predictions.npz").predicted)


def test_hidden_classes_are_never_trained_on(write_npz: Write) -> None:
    """With other finer classes, or none, predictions are the same; only what is measured of them differs."""
    coarse = np.repeat([0, 0, 1], 20), np.repeat([0, 0, 1], 6)
    fine = np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 6)
    told = write_npz("told", y_train=coarse[0], y_test=coarse[1], y_train_fine=fine[0], y_test_fine=fine[1])
    rng = np.random.default_rng(0)
    other = write_npz(
        "other",
        y_train=coarse[0],
        y_test=coarse[1],
        y_train_fine=rng.permutation(fine[0]),
        y_test_fine=rng.permutation(fine[1]),
    )
    silent = write_npz("silent", y_train=coarse[0], y_test=coarse[1])
    runs = [run("sbcl", f"data={path}", *QUICK, place=path.stem) for path in (told, other, silent)]
    weights = [encoder_of(one).state_dict() for one in runs]
    assert all(torch.equal(value, w[name]) for w in weights[1:] for name, value in weights[0].items())
    assert runs[0].metrics["test/hidden_nmi"] > 0.5 > runs[1].metrics["test/hidden_nmi"]
    assert not any("hidden" in name or "fine" in name for name in runs[2].metrics)


def test_superclass_digits(tmp_path: Path) -> None:
    """Sizes that belong to the data, other rows under every seed; a ratio of the user's goes before them."""
    cards, chosen = [], []
    for words in ((), ("seed=1",), ("imbalance.ratio=4", "imbalance.largest=60")):
        _, _, task = prepare("longtail.sbcl", ["data=superclass-digits", *QUIET, *words])
        assert isinstance(task, LongTailTask)
        cards.append(task.card)
        chosen.append(task.training)
    assert chosen[0].counts(5).tolist() == [400, 80, 20, 12, 12]
    assert chosen[0].fine is not None
    assert chosen[0].fine.bincount().tolist() == [80] * 5 + [40, 40, 20, 12, 12]
    assert not torch.equal(chosen[0].rows, chosen[1].rows)
    assert chosen[2].counts(5).tolist() == [60, 42, 30, 21, 15]
    assert cards[0].digest == cards[1].digest != cards[2].digest
    assert [card.name for card in cards] == [
        "superclass-digits",
        "superclass-digits",
        "superclass-digits-exp4",
    ]


def test_labels_that_are_wrong_and_left_out(write_npz: Write) -> None:
    """The second stage is not trained on them either."""
    words = (f"data={write_npz()}", *QUICK, "noise.rate=0.3", "noise.kind=sym")
    found = run("sbcl", *words, "filter.enabled=true", "filter.keep=0.6")
    rows = table(Path(found.output_dir) / "subclasses.csv")
    assert 36 <= sum(int(row["kept"]) for row in rows) <= 39
    assert found.metrics["test/accuracy"] > 0.8
    card = task_of(found).card
    assert card.name == "toy-sym0.3"


@pytest.mark.parametrize("method", ["supcon", "simclr", "balanced_softmax", "cross_entropy"])
def test_baselines_on_the_example(method: str, tmp_path: Path) -> None:
    """No subclasses, and the same measures."""
    example: Any = METHODS[f"longtail.{method}"].load("example")
    found = run(method, *example(tmp_path / "data"), "epochs=2")
    folder = Path(found.output_dir)
    assert {"test/balanced_accuracy", "test/hidden_nmi", "test/fine_probe"} <= set(found.metrics)
    assert "test/subclass_purity" not in found.metrics
    assert not (folder / "subclasses.csv").exists()
    assert [line["subclasses"] for line in table(folder / "classes.csv")] == ["", ""]


def test_rows_held_out_are_what_validation_looks_at(write_npz: Write) -> None:
    """And never trained on, by encoder or classifier."""
    words = [f"data={write_npz()}", *QUICK, "validation=0.25", *QUIET]
    _, config, task = prepare("longtail.sbcl", words)
    assert isinstance(task, LongTailTask)
    training, data = task.training, task.dataset
    assert (len(training.rows), len(training.held)) == (45, 15)
    method: Any = task.build(config)
    assert len(method.subclasses) == 45
    head = task.head(method)
    with torch.no_grad():
        predicted = head(method.eval().encoder(data.x_train[training.held])).argmax(1)
    expected = float((predicted == training.held_given).double().mean())
    assert task.evaluate(method, "val")["accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "labels", [np.array(["a", "b", "c"]), np.array([0.5, 1.5, 2.5]), np.array([-3, 5, 9])]
)
def test_labels_of_a_file_survive_export(write_npz: Write, labels: Any) -> None:
    """Text, floats, numbers with gaps."""
    path = write_npz(y_train=np.repeat(labels, 20), y_test=np.repeat(labels, 6))
    found = run("supcon", f"data={path}", "epochs=1", "dim=8")
    assert load_classifier(Path(found.output_dir) / "model", "cpu").classes == tuple(labels.tolist())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train_fine": np.zeros(60, int)}, "lacks y_test_fine"),
        (
            {"y_train_fine": np.zeros(9, int), "y_test_fine": np.zeros(18, int)},
            r"y_train_fine: shape \(60,\) expected",
        ),
        ({"x_train": np.full((60, 4), np.nan)}, "row 0 is not finite"),
        ({"y_train": np.zeros(60, int), "y_test": np.zeros(18, int)}, "two classes at least"),
    ],
)
def test_files_that_cannot_be_used(write_npz: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run("sbcl", f"data={write_npz(**changes)}", *QUICK)
    assert not Path("run").exists()


def test_a_classifier_that_cannot_be_saved_is_refused_before_training(write_npz: Write) -> None:
    with pytest.raises(ConfigError, match="head.kind=knn"):
        run("sbcl", f"data={write_npz()}", *QUICK, "head.kind=knn")
    assert not Path("run").exists()
