"""Classifiers of features with wrong labels: each by itself, the experiment on a toy domain, and what is skipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.graph.example import circles
from nearfar.interop.recbole import packaged_dataset
from nearfar.labels import balanced_accuracy, label_noise, long_tail
from nearfar.optional import installed
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.noisy_labels import BASELINES, CannotRunError, available, baselines, experiment
from nearfar.pipelines.noisy_labels.__main__ import compare, main
from nearfar.pipelines.noisy_labels.baselines import cleanlab_suspects, nearest_mean, standardized
from nearfar.pipelines.noisy_labels.experiment import Setting, differences, run_domain
from nearfar.pipelines.noisy_labels.movielens import age_groups, single_genres
from nearfar.pipelines.noisy_labels.plot import draw_bars
from nearfar.pipelines.noisy_labels.representations import Representations, by_size, halves, represent
from nearfar.pipelines.noisy_labels.tables import markdown
from nearfar.pipelines.significance import Difference, paired_difference, verdict
from nearfar.runtime import numpy_generator
from nearfar.timeseries.example import bumps
from nearfar.tracking import open_store

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

FILTERED = ("neighbors", "rcal-knn")


def gaussians(per_class: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Four clouds in 40 dimensions of very different scale, and a feature that says nothing.

    So many dimensions let a linear classifier learn wrong labels by heart; neighbours still tell classes apart.
    """
    y = np.repeat(np.arange(4), per_class)
    centers = 0.8 * np.random.default_rng(100).normal(size=(4, 40))
    x = centers[y] + np.random.default_rng(seed).normal(size=(len(y), 40))
    return np.c_[x * np.logspace(0, 3, 40), np.full(len(y), 7.0)], y


@pytest.fixture(scope="module")
def toy() -> Representations:
    """Four clouds as a domain."""
    (x_train, y_train), (x_test, y_test) = gaussians(150, 0), gaussians(50, 1)
    names = tuple("abcd")
    return Representations(
        "toy",
        "clouds",
        "four clouds",
        x_train.astype(np.float32),
        y_train,
        x_test.astype(np.float32),
        y_test,
        names,
    )


@pytest.fixture(scope="module")
def spoilt(toy: Representations) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Features, wrong labels and true ones of a long tail of it."""
    rows = long_tail(toy.y_train, 5, rng=numpy_generator(0, "tail"))
    noisy = label_noise(toy.y_train[rows], 0.4, rng=numpy_generator(0, "noise"))
    return toy.x_train[rows], noisy.labels, noisy.true


def usable(name: str) -> str:
    """Skips where a package is missing."""
    for module in BASELINES[name].requires:
        pytest.importorskip(module, reason=f"{name} needs {module}, which is not installed")
    return name


# Each baseline


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_learns_from_right_labels_and_repeats(name: str, toy: Representations) -> None:
    baseline = BASELINES[usable(name)]
    x, y = toy.x_train[::3], toy.y_train[::3]
    before = x.copy(), y.copy()
    first = baseline.fit_predict(x, y, toy.x_test, 3)
    assert first.dtype == np.int64
    assert balanced_accuracy(toy.y_test, first) > 0.9
    assert (first == baseline.fit_predict(x, y, toy.x_test, 3)).all()
    assert (x == before[0]).all()
    assert (y == before[1]).all()


@pytest.mark.parametrize("name", FILTERED)
def test_filters_beat_plain_regression_on_wrong_labels(
    name: str, toy: Representations, spoilt: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
) -> None:
    x, noisy, _ = spoilt
    ours = balanced_accuracy(toy.y_test, BASELINES[usable(name)].fit_predict(x, noisy, toy.x_test, 0))
    plain = balanced_accuracy(toy.y_test, BASELINES["logistic"].fit_predict(x, noisy, toy.x_test, 0))
    assert ours > plain + 0.08


@pytest.mark.parametrize("name", BASELINES)
def test_an_absent_class_and_an_only_class(name: str, toy: Representations) -> None:
    """A class without training rows is never predicted; with one class there is nothing else to say."""
    baseline = BASELINES[usable(name)]
    some = toy.y_train != 1
    x, y = toy.x_train[some][::3], toy.y_train[some][::3]
    assert 1 not in baseline.fit_predict(x, y, toy.x_test, 0)
    only = y == 2
    assert set(baseline.fit_predict(x[only], y[only], toy.x_test, 0).tolist()) == {2}


@pytest.mark.parametrize("name", ["smote", "cleanlab"])
def test_a_class_of_one_item_stops_what_needs_two(name: str, toy: Representations) -> None:
    rows = np.r_[np.flatnonzero(toy.y_train < 3)[::3], np.flatnonzero(toy.y_train == 3)[:1]]
    with pytest.raises(CannotRunError, match="class 3 has one item, at least 2 are needed"):
        BASELINES[usable(name)].fit_predict(toy.x_train[rows], toy.y_train[rows], toy.x_test, 0)
    others = [other for other in available()[0] if other.name not in ("smote", "cleanlab")]
    for other in others:
        assert len(other.fit_predict(toy.x_train[rows], toy.y_train[rows], toy.x_test, 0)) == len(toy.x_test)


@pytest.mark.parametrize("name", ["smote", "cleanlab"])
def test_two_items_are_enough(name: str, toy: Representations) -> None:
    rows = np.r_[np.flatnonzero(toy.y_train < 3)[::3], np.flatnonzero(toy.y_train == 3)[:2]]
    found = BASELINES[usable(name)].fit_predict(toy.x_train[rows], toy.y_train[rows], toy.x_test, 0)
    assert balanced_accuracy(toy.y_test, found) > 0.6


def test_scaling_is_that_of_scikit_learn(toy: Representations) -> None:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(toy.x_train.astype(np.float64))
    for found, rows in zip(standardized(toy.x_train, toy.x_test), (toy.x_train, toy.x_test), strict=True):
        np.testing.assert_allclose(found, scaler.transform(rows.astype(np.float64)), atol=1e-9)
    assert (standardized(toy.x_train, toy.x_test)[0][:, -1] == 0).all()


def test_nearest_mean_is_that_of_scikit_learn(toy: Representations) -> None:
    from sklearn.neighbors import NearestCentroid

    x, test = standardized(toy.x_train[:, :-1], toy.x_test[:, :-1])
    expected = NearestCentroid().fit(x, toy.y_train).predict(test)
    assert (nearest_mean(x, toy.y_train, test, 0) == expected).all()


def test_balanced_softmax_of_equal_classes_is_logistic_regression(toy: Representations) -> None:
    """The same penalty and the same loss up to a constant: two solvers, one optimum."""
    found = BASELINES["balanced-softmax"].fit_predict(toy.x_train, toy.y_train, toy.x_test, 0)
    expected = BASELINES["logistic"].fit_predict(toy.x_train, toy.y_train, toy.x_test, 0)
    assert (found == expected).mean() > 0.99


def test_cleanlab_finds_mostly_wrong_labels(
    spoilt: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]],
) -> None:
    pytest.importorskip("cleanlab", reason="cleanlab is not installed")
    x, noisy, true = spoilt
    suspects = cleanlab_suspects(standardized(x, x)[0], noisy, 0)
    assert (noisy != true)[suspects].mean() > 0.6
    assert (noisy != true)[~suspects].mean() < 0.3


def test_bad_input_is_refused(toy: Representations) -> None:
    fit = BASELINES["nearest-mean"].fit_predict
    with pytest.raises(DataError, match="one label for each of the 600 training rows expected, got 5"):
        fit(toy.x_train, toy.y_train[:5], toy.x_test, 0)
    with pytest.raises(DataError, match=r"\(n, m\) and \(N, m\) expected, got \(600, 41\) and \(200, 3\)"):
        fit(toy.x_train, toy.y_train, toy.x_test[:, :3], 0)
    broken = toy.x_train.copy()
    broken[4, 1] = np.nan
    with pytest.raises(DataError, match="x_train: finite features expected, not so in row 4"):
        fit(broken, toy.y_train, toy.x_test, 0)
    with pytest.raises(DataError, match="y_noisy: class codes from 0 expected, got -1"):
        fit(toy.x_train, toy.y_train - 1, toy.x_test, 0)


def test_a_missing_package_leaves_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "installed", lambda module: module != "cleanlab")
    found, notes = available()
    assert [baseline.name for baseline in found] == [name for name in BASELINES if name != "cleanlab"]
    assert list(notes) == ["cleanlab"]
    assert 'pip install "nearfar[bench]"' in notes["cleanlab"]
    with pytest.raises(ConfigError, match=r"methods: 'smoke' is unknown; .*smote"):
        available(["smoke"])


# The experiment


def test_the_experiment_end_to_end(toy: Representations, own_store: None, tmp_path: Path) -> None:
    """Tables, JSON, bars and a run in the store, all with the same numbers; wins and losses by their tests."""
    store = open_store(None)
    names = ["logistic", "nearest-mean", "neighbors", "rcal-knn"]
    (result,) = compare([toy], Setting(seeds=3, ratio=5), names, store=store, quiet=True)
    assert result.counts[0] == 5 * result.counts[-1] == 150
    assert list(result.scores) == names
    for scores in result.scores.values():
        clean, noisy = mean_std(scores.clean), mean_std(scores.noisy)
        assert clean is not None
        assert noisy is not None
        assert clean.n == noisy.n == 3
        assert clean.mean > 0.9
        assert 0.25 < noisy.mean < clean.mean
    before, after = result.purities["none"][0], result.purities["knn"][0]
    assert before is not None
    assert after is not None
    assert before.overall == pytest.approx(0.6, abs=0.01)
    assert after.overall is not None
    assert after.overall > 0.85
    expected = paired_difference(
        [v for v in result.scores["rcal-knn"].noisy if v is not None],
        [v for v in result.scores["logistic"].noisy if v is not None],
    )
    assert expected is not None
    assert result.differences["logistic"].p_value == expected.p_value
    assert set(result.differences) == set(names) - {"rcal-knn"}

    assert noisy is not None
    text = markdown([result], {"graph": "there are no files"})
    assert f"{100 * noisy.mean:.1f} ± {100 * noisy.std:.1f}" in text
    assert "- graph is skipped: there are no files" in text
    assert json.loads(json.dumps(result.to_dict()))["scores"]["logistic"]["title"] == "logistic regression"

    experiment_id = store.experiment("nearfar/noisy-labels/toy")
    (run,) = store.client.search_runs([experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/balanced_accuracy/rcal-knn_mean"] == pytest.approx(noisy.mean)
    history = store.client.get_metric_history(run.info.run_id, "test/balanced_accuracy/rcal-knn")
    assert [point.value for point in history] == pytest.approx(list(result.scores["rcal-knn"].noisy))
    if installed("matplotlib"):
        assert draw_bars(result).startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_result(toy: Representations) -> None:
    calls: list[int] = []
    names = ["nearest-mean", "rcal-knn"]
    first, second = (
        run_domain(toy, Setting(seeds=1), names, advance=lambda: calls.append(1)) for _ in range(2)
    )
    assert first == second
    assert len(calls) == 2 * 2 * len(names)


def test_what_cannot_run_is_said_and_not_counted(toy: Representations) -> None:
    """With wishes beyond what there is, the ratio is the largest possible and the rarest class has one row."""
    pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
    result = run_domain(toy, Setting(seeds=2, ratio=1e6), ["smote", "nearest-mean", "rcal-knn"])
    assert result.counts[0] / result.counts[-1] == 150
    assert result.scores["smote"].clean == (None, None)
    assert "SMOTE cannot run: class 3 has one item" in result.scores["smote"].notes[0]
    assert "| SMOTE + LR | cannot run |" in markdown([result], {})
    if installed("matplotlib"):
        assert draw_bars(result).startswith(b"\x89PNG")


def test_differences_are_over_common_seeds() -> None:
    found = differences({"rcal-knn": (0.9, 0.8, 0.7), "a": (0.5, None, 0.2), "b": (None, None, None)})
    assert set(found) == {"a"}
    assert found["a"].n == 2
    assert found["a"].mean == pytest.approx(0.45)
    assert differences({"a": (0.5,)}) == {}


def test_verdicts() -> None:
    assert verdict(None) == ""
    assert verdict(Difference(1, 0.3)) == ""
    assert verdict(Difference(5, 0.3, p_value=0.01, p_holm=0.04)) == "win"
    assert verdict(Difference(5, -0.3, p_value=0.01, p_holm=0.04)) == "loss"
    assert verdict(Difference(5, -0.3, p_value=0.01, p_holm=0.06)) == "draw"


@pytest.mark.parametrize(
    ("values", "message"),
    [({"rate": 1.0}, "rate"), ({"rate": 0.0}, "rate"), ({"ratio": 0.5}, "ratio"), ({"seeds": 0}, "seeds")],
)
def test_settings_out_of_bounds(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}: "):
        Setting(**values)  # type: ignore[arg-type]


# Representations


def test_classes_are_numbered_by_size() -> None:
    y_train, y_test, names = by_size(np.array([0, 2, 2, 1, 1, 2]), np.array([0, 1, 2, 0]), ("a", "b", "c"))
    assert y_train.tolist() == [2, 0, 0, 1, 1, 0]
    assert y_test.tolist() == [2, 1, 0, 2]
    assert names == ("c", "b", "a")


def test_halves_share_every_class() -> None:
    labels = np.repeat([0, 1, 2], [9, 4, 1])
    first, second = halves(labels, numpy_generator(0, "halves"))
    assert sorted([*first, *second]) == list(range(14))
    assert np.bincount(labels[first]).tolist() == [5, 2, 1]
    assert (first != halves(labels, numpy_generator(1, "halves"))[0]).any()


def test_series_keep_their_split_and_a_training_is_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*bumps(tmp_path), "epochs=1"]
    found = represent("timeseries", tmp_path, tmp_path / "runs", words=words, quiet=True)
    assert found.x_train.shape[1] == found.x_test.shape[1]
    assert len(found.x_train) == len(found.y_train)
    assert set(found.y_test.tolist()) == {0, 1}
    again = represent("timeseries", tmp_path, tmp_path / "runs", words=words, quiet=True)
    assert "nothing to do" in capsys.readouterr().err
    assert again.digest() == found.digest()


def test_nodes_are_split_in_halves(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric is not installed")
    words = [*circles(tmp_path), "epochs=1"]
    found = represent("graph", tmp_path, tmp_path / "runs", words=words, quiet=True)
    sizes = np.bincount(found.y_train)
    assert (np.abs(sizes - np.bincount(found.y_test)) <= 1).all()
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize(
    ("domain", "ending", "read"),
    [("recsys-users", ".user", age_groups), ("recsys-films", ".item", single_genres)],
)
def test_classes_of_movielens(
    domain: str, ending: str, read: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    if not installed("recbole"):
        pytest.skip("RecBole, whose wheel holds ml-100k, is not installed")
    words = ["epochs=0", "dim=8", "inner_dim=8", "max_length=5"]
    found = represent(domain, tmp_path, tmp_path / "runs", words=words, quiet=True)
    labels = read(packaged_dataset("ml-100k") / f"ml-100k{ending}")
    values, counts = np.unique(list(labels.values()), return_counts=True)
    ours = np.bincount(np.r_[found.y_train, found.y_test])
    assert dict(zip(found.classes, ours.tolist(), strict=True)) == dict(
        zip(values, counts.tolist(), strict=True)
    )
    assert found.x_train.shape == (len(found.y_train), 8)


def test_groups_by_hand(tmp_path: Path) -> None:
    users = tmp_path / "toy.user"
    users.write_text("user_id:token\tage:token\n1\t24\n2\t25\n3\t44\n4\t45\n", encoding="utf-8")
    assert list(age_groups(users).values()) == ["under 25", "25 to 34", "35 to 44", "45 and over"]
    films = tmp_path / "toy.item"
    films.write_text(
        "item_id:token\tclass:token_seq\n1\tWar\n2\tWar Drama\n3\tWar\n4\tDrama\n", encoding="utf-8"
    )
    assert single_genres(films, least=2) == {"1": "War", "3": "War"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column user_id expected, got an empty file"),
        ("user_id:token\n1\n", "column age expected, got user_id"),
        ("user_id:token\tage:token\n1\n", "line 2 has 1 columns, 2 expected"),
        ("user_id:token\tage:token\n1\told\n", "age of user 1: a number expected, got 'old'"),
    ],
)
def test_bad_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "toy.user").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        age_groups(tmp_path / "toy.user")
    with pytest.raises(DataError, match="cannot be read"):
        age_groups(tmp_path / "absent.user")


# The command


def test_absent_data_is_skipped_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric is not installed")
    out = tmp_path / "results.json"
    words = [
        "--data-dir",
        str(tmp_path),
        "--domains",
        "timeseries",
        "graph",
        "--no-tracking",
        "--out",
        str(out),
    ]
    assert main(words) == 0
    skipped = json.loads(out.read_text(encoding="utf-8"))["skipped"]
    assert "JapaneseVowels" in skipped["timeseries"]
    assert "ind.cora.x" in skipped["graph"]
    text = capsys.readouterr().out
    assert "- timeseries is skipped: " in text
    assert "- graph is skipped: " in text
    assert not list(tmp_path.glob("outputs/**/run.json"))


def test_the_command_refuses_bad_words_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data-dir", str(tmp_path), "--no-tracking"]
    assert main([*words, "--domains", "graphs"]) == 2
    assert "'graphs' is unknown" in capsys.readouterr().err
    assert main([*words, "--methods", "nothing"]) == 2
    assert main([*words, "--noise", "2"]) == 2
    assert main([*words, "--out", str(tmp_path / "absent" / "r.json")]) == 6
    assert "there is no folder" in capsys.readouterr().err


def test_the_command_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], toy: Representations
) -> None:
    monkeypatch.setattr("nearfar.pipelines.noisy_labels.__main__.represent", lambda *_, **__: toy)
    out = tmp_path / "results.json"
    words = ["--data-dir", str(tmp_path), "--domains", "graph", "--no-tracking", "--quiet", "--seeds", "2"]
    assert main([*words, "--methods", "nearest-mean", "rcal-knn", "--out", str(out)]) == 0
    assert "| **RCAL-kNN** | " in capsys.readouterr().out
    (domain,) = json.loads(out.read_text(encoding="utf-8"))["domains"]
    assert set(domain["scores"]) == {"nearest-mean", "rcal-knn"}
    assert experiment.REFERENCE in domain["scores"]
