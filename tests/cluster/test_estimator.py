"""The scikit-learn clusterer: its contract, and that it says what the function says."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import nearfar.cluster
from nearfar.cluster import balanced_kmeans
from nearfar.errors import ConfigError
from nearfar.runtime import generator, numpy_generator

pytest.importorskip("sklearn")

from nearfar.cluster import BalancedKMeans


def rows(n: int = 120, d: int = 5) -> NDArray[np.float64]:
    rng = numpy_generator(0, "rows", n, d)
    return rng.normal(size=(6, d))[rng.integers(0, 6, n)] + 0.2 * rng.normal(size=(n, d))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_scikit_learn_finds_nothing_wrong(metric: Any) -> None:
    """All of its checks, none skipped as expected to fail."""
    from sklearn.utils.estimator_checks import check_estimator

    results = check_estimator(BalancedKMeans(metric=metric), on_fail=None)
    assert len(results) > 40
    assert [(r["check_name"], str(r["exception"])) for r in results if r["status"] == "failed"] == []
    assert not any(r["status"] == "xfail" for r in results)


def test_it_is_the_function() -> None:
    x = rows()
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    expected = balanced_kmeans(torch.from_numpy(x), 7, generator=generator(seed, "balanced k-means"))
    found = BalancedKMeans(7, random_state=3).fit(x)
    assert found.labels_.tolist() == expected.labels.tolist()
    assert found.sizes_.tolist() == expected.sizes.tolist()
    assert found.cluster_centers_.tolist() == expected.centers.tolist()
    assert (found.objective_, found.n_iter_) == (expected.objective, expected.n_iter)
    assert found.n_features_in_ == 5
    assert (
        BalancedKMeans(7, random_state=3).fit_predict(torch.from_numpy(x)).tolist() == found.labels_.tolist()
    )


@pytest.mark.parametrize(("n", "most", "m"), [(120, 10, 12), (121, 10, 13), (119, 10, 12), (5, 9, 1)])
def test_max_size(n: int, most: int, m: int) -> None:
    found = BalancedKMeans(None, max_size=most, random_state=0).fit(rows(n))
    assert len(found.sizes_) == m
    assert found.sizes_.max() <= most


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_predict_is_the_nearest_centre_however_full(metric: Any) -> None:
    x = rows()
    found = BalancedKMeans(6, metric=metric, random_state=0).fit(x)
    new = rows(50) + 0.1
    if metric == "cosine":
        score = new @ found.cluster_centers_.T
    else:
        score = -np.square(new[:, None] - found.cluster_centers_).sum(2)
    assert found.predict(new).tolist() == score.argmax(1).tolist()
    assert found.predict(np.repeat(new[:1], 500, 0)).tolist() == [score[0].argmax()] * 500
    assert found.predict(new.astype(np.float32)).tolist() == score.argmax(1).tolist()


def test_random_state() -> None:
    x = rows()
    first = BalancedKMeans(7, random_state=0).fit(x)
    assert BalancedKMeans(7, random_state=0).fit_predict(x).tolist() == first.labels_.tolist()
    state = np.random.RandomState(0)
    labels = [BalancedKMeans(7, random_state=state).fit_predict(x).tolist() for _ in range(4)]
    assert labels[0] == first.labels_.tolist()
    assert len(set(map(tuple, labels))) > 1
    assert BalancedKMeans(7).fit(x).sizes_.max() == 18


def test_a_warm_start_uses_the_centres_there_are() -> None:
    x = rows()
    cold = BalancedKMeans(7, random_state=0, max_iter=1).fit(x)
    warm = BalancedKMeans(7, random_state=0, max_iter=1, warm_start=True).fit(x)
    before = warm.cluster_centers_
    assert warm.labels_.tolist() == cold.labels_.tolist()
    warm.fit(x)
    assert warm.objective_ > cold.objective_
    expected = balanced_kmeans(x, 7, max_iter=1, generator=generator(0, "unused"), init=before)
    assert warm.labels_.tolist() == expected.labels.tolist()
    assert cold.fit(x).labels_.tolist() == expected.labels.tolist() or cold.objective_ < warm.objective_
    assert len(warm.set_params(n_clusters=8).fit(x).sizes_) == 8


def test_names_of_columns_and_pickles() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows(), columns=list("abcde"))
    found = BalancedKMeans(4, random_state=0).fit(frame)
    assert found.feature_names_in_.tolist() == list("abcde")
    again = pickle.loads(pickle.dumps(found))
    assert again.predict(frame).tolist() == found.predict(frame).tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_clusters": None}, "exactly one expected, got None and None"),
        ({"max_size": 5}, "exactly one expected, got 8 and 5"),
        ({"n_clusters": 0}, "n_clusters: an integer of at least 1 expected, got 0"),
        ({"n_clusters": 121}, "got 121 with n_samples=120"),
        ({"n_clusters": None, "max_size": 0}, "max_size: an integer of at least 1 expected, got 0"),
        ({"n_clusters": None, "max_size": 2.0}, "max_size: .* got 2.0"),
        ({"metric": "l1"}, "metric: .* got 'l1'"),
        ({"method": "best"}, "method: .* got 'best'"),
        ({"max_iter": 0}, "max_iter: .* got 0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BalancedKMeans(**settings).fit(rows())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_points(bad: float) -> None:
    x = rows()
    x[3, 2] = bad
    with pytest.raises(ValueError, match="contains (NaN|infinity)"):
        BalancedKMeans(3).fit(x)


def test_the_package_is_imported_without_scikit_learn() -> None:
    assert "BalancedKMeans" not in nearfar.cluster.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = nearfar.cluster.Nothing
    program = "import sys, nearfar.cluster; print({'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
