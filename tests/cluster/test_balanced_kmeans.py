"""Balanced k-means: sizes, known clusters, and the same answer every time and everywhere."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.cluster import BalancedClusters, balanced_kmeans, candidates, kmeans, seeding
from nearfar.cluster.kmeans import METHODS, Method
from nearfar.cluster.points import METRICS, Metric
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator


def rows(n: int, d: int = 8, latent: int = 12) -> Tensor:
    rng = generator(0, "rows", n, d, latent)
    centers = torch.randn(latent, d, generator=rng)
    return centers[torch.randint(latent, (n,), generator=rng)] + 0.5 * torch.randn(n, d, generator=rng)


def clusters(x: Tensor, m: int, seed: int = 0, **settings: Any) -> BalancedClusters:
    return balanced_kmeans(x, m, generator=generator(seed, "clusters"), **settings)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces, lists and groups so small that hybrid uses all of them on a thousand points."""
    for module, name, value in (
        (kmeans, "PIECE", 150),
        (candidates, "LISTED", 4),
        (candidates, "GROUP", 5),
        (candidates, "COMPARED", 20),
        (seeding, "FEWEST", 100),
    ):
        monkeypatch.setattr(module, name, value)


def same_partition(a: Tensor, b: Tensor) -> bool:
    return len(torch.stack([a, b]).unique(dim=1).T) == len(a.unique()) == len(b.unique())


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "m"), [(600, 37), (600, 60), (611, 64), (50, 1), (40, 40), (41, 40), (79, 40)])
def test_sizes(n: int, m: int, method: Method, metric: Metric) -> None:
    if method == "optimal":
        pytest.importorskip("scipy")
    x = rows(n)
    found = clusters(x, m, method=method, metric=metric, max_iter=4)
    assert found.sizes.tolist() == found.labels.bincount(minlength=m).tolist()
    assert set(found.sizes.tolist()) <= {n // m, -(-n // m)}
    assert found.labels.dtype == found.sizes.dtype == torch.int64
    assert found.centers.shape == (m, 8)
    assert found.centers.dtype == x.dtype


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", METHODS)
def test_centers_and_objective_are_those_of_the_labels(method: Method, metric: Metric) -> None:
    if method == "optimal":
        pytest.importorskip("scipy")
    x = rows(400).double()
    found = clusters(x, 23, method=method, metric=metric, max_iter=5)
    given = torch.nn.functional.normalize(x, dim=1) if metric == "cosine" else x
    means = torch.stack([given[found.labels == j].mean(0) for j in range(23)])
    if metric == "cosine":
        means = torch.nn.functional.normalize(means, dim=1)
        expected = (given * means[found.labels]).sum(1).mean()
    else:
        expected = -(given - means[found.labels]).square().sum(1).mean()
    assert torch.allclose(found.centers, means, atol=1e-6)
    assert found.objective == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", ["greedy", "optimal", "hybrid"])
def test_planted_clusters(method: Method, metric: Metric) -> None:
    """Far apart and of equal size, fifty of forty points: found without a mistake."""
    if method == "optimal":
        pytest.importorskip("scipy")
    truth = torch.arange(50).repeat(20)
    directions = torch.linalg.qr(torch.randn(64, 50, generator=generator(0, "planted")))[0].T
    x = 10 * directions[truth] + 0.1 * torch.randn(1000, 64, generator=generator(0, "noise"))
    assert same_partition(clusters(x, 50, method=method, metric=metric).labels, truth)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n", [120, 125])
def test_the_objective_of_optimal_never_falls(
    n: int, metric: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with leftovers: who holds one more is chosen as well as possible."""
    pytest.importorskip("scipy")
    seen: list[float] = []
    keep = kmeans._Run.keep

    def watched(run: kmeans._Run, labels: Tensor) -> Tensor:
        seen.append(run.points.objective(*run.points.sums(labels, run.m)))
        return keep(run, labels)

    monkeypatch.setattr(kmeans._Run, "keep", watched)
    for seed in range(5):
        seen.clear()
        found = clusters(rows(n), 10, seed, method="optimal", metric=metric)
        assert found.converged
        assert len(seen) == found.n_iter > 2
        assert all(b >= a - 1e-6 for a, b in itertools.pairwise(seen))
        assert found.objective == max(seen)


def test_it_stops_when_an_assignment_comes_back() -> None:
    x = rows(300)
    found = clusters(x, 10)
    assert found.converged
    assert found.n_iter < 50
    assert clusters(x, 10, max_iter=found.n_iter - 1).converged is False
    assert torch.equal(clusters(x, 10, max_iter=found.n_iter).labels, found.labels)


@pytest.mark.parametrize("metric", METRICS)
def test_rotation_changes_no_partition(metric: Metric) -> None:
    x = rows(300).double()
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=generator(0, "turn")))[0]
    first, second = (clusters(one, 12, metric=metric) for one in (x, x @ turn))
    assert same_partition(first.labels, second.labels)
    assert first.objective == pytest.approx(second.objective, rel=1e-6)


def test_length_is_nothing_to_cosine_and_place_nothing_to_euclidean() -> None:
    x = rows(300).double()
    lengths = torch.rand(300, 1, generator=generator(0, "lengths"), dtype=torch.float64) + 0.1
    assert torch.equal(clusters(x, 12).labels, clusters(x * lengths, 12).labels)
    plain = clusters(x, 12, metric="euclidean")
    moved = clusters(x * 8 + 512, 12, metric="euclidean")
    assert torch.equal(plain.labels, moved.labels)
    assert torch.allclose(moved.centers, plain.centers * 8 + 512)
    assert moved.objective == pytest.approx(64 * plain.objective)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("method", ["greedy", "hybrid", "bisection"])
@pytest.mark.parametrize("metric", METRICS)
def test_the_seed_decides_and_threads_do_not(method: Method, metric: Metric) -> None:
    x = rows(700, d=40, latent=60)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(clusters(x, 33, method=method, metric=metric))
    finally:
        torch.set_num_threads(threads)
    one, two = found
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one.centers, two.centers)
    assert one.objective == two.objective
    assert not torch.equal(one.labels, clusters(x, 33, 1, method=method, metric=metric).labels)


def test_it_does_not_touch_its_input() -> None:
    x = rows(100)
    before = x.clone()
    clusters(x, 5)
    clusters(x, 5, metric="euclidean")
    assert torch.equal(x, before)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("method", ["greedy", "hybrid"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_warm_start_goes_on(method: Method, metric: Metric) -> None:
    """One step from centres of the same, or nearly the same, points is better than one from seeds."""
    x = rows(600)
    first = clusters(x, 20, method="greedy", metric=metric)
    near = x[:-7] + 0.01 * torch.randn(593, 8, generator=generator(0, "noise"))
    for points, sizes in ((x, {30}), (near, {29, 30})):
        cold = clusters(points, 20, method="greedy", metric=metric, max_iter=1)
        warm = clusters(points, 20, method=method, metric=metric, max_iter=1, init=first.centers.numpy())
        assert set(warm.sizes.tolist()) == sizes
        assert warm.objective > cold.objective + 0.02 * abs(cold.objective)
    far = clusters(x, 20, method=method, metric=metric, init=1e6 * torch.eye(20, 8))
    assert set(far.sizes.tolist()) == {30}


def test_centres_to_start_from_replace_the_seeds() -> None:
    x = rows(100)
    start = x[:5]
    found = [clusters(x, 5, seed, max_iter=1, init=start).labels for seed in (0, 1)]
    assert torch.equal(*found)


def test_rows_of_zeros_and_copies() -> None:
    """Zero is similar to nothing at all, also to itself; nothing but zeros, or one point, makes clusters too."""
    x = rows(60)
    x[::10] = 0
    found = clusters(x, 7)
    assert set(found.sizes.tolist()) == {8, 9}
    assert found.centers.isfinite().all()
    for same in (torch.zeros(30, 4), torch.ones(30, 4)):
        for metric in METRICS:
            found = clusters(same, 7, metric=metric)
            assert set(found.sizes.tolist()) == {4, 5}
            assert found.objective == pytest.approx(float(metric == "cosine" and bool(same.any())), abs=1e-6)


def test_opposite_points_have_a_centre_of_zero() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    found = clusters(x, 1)
    assert found.centers.tolist() == [[0.0, 0.0]]
    assert found.objective == 0.0


def test_auto_is_greedy_for_few_scores_and_hybrid_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(500)
    assert torch.equal(clusters(x, 20).labels, clusters(x, 20, method="greedy").labels)
    monkeypatch.setattr(kmeans, "SCORES", 9_999)
    monkeypatch.setattr(kmeans, "PIECE", 100)
    assert torch.equal(clusters(x, 20).labels, clusters(x, 20, method="hybrid").labels)


def test_better_methods_are_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "PIECE", 300)
    x = rows(2000, d=32, latent=150)
    greedy, hybrid, bisection = (
        clusters(x, 100, method=method).objective for method in ("greedy", "hybrid", "bisection")
    )
    random = torch.nn.functional.normalize(x, dim=1)[:2000].view(100, 20, 32).sum(1).norm(dim=1).sum() / 2000
    assert min(greedy, hybrid) > bisection > random + 0.05


def test_numpy_half_precision_and_integers() -> None:
    x = rows(100)
    expected = clusters(x, 5)
    assert torch.equal(clusters(x.numpy(), 5).labels, expected.labels)  # type: ignore[arg-type]
    half = clusters(x.half(), 5)
    assert half.centers.dtype == torch.float32
    assert set(half.sizes.tolist()) == {20}
    grid = np.arange(24).reshape(12, 2)
    assert clusters(grid, 3, metric="euclidean").sizes.tolist() == [4, 4, 4]  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.usefixtures("small_pieces")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", ["greedy", "hybrid", "bisection"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_gpu_finds_the_same(method: Method, metric: Metric) -> None:
    x = rows(1500, d=40, latent=60)
    there, here = (clusters(one, 70, method=method, metric=metric) for one in (x.cuda(), x))
    assert there.labels.is_cuda
    assert torch.equal(there.labels.cpu(), here.labels)
    assert torch.allclose(there.centers.cpu(), here.centers)
    assert there.objective == pytest.approx(here.objective, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_clusters": 0}, "n_clusters: an integer of at least 1 expected, got 0"),
        ({"n_clusters": 2.5}, "n_clusters: .* got 2.5"),
        ({"n_clusters": 11}, "n_clusters: at most the number of points expected, got 11 with n_samples=10"),
        ({"max_iter": 0}, "max_iter: an integer of at least 1 expected, got 0"),
        ({"method": "fast"}, "method: one of auto, greedy, .* got 'fast'"),
        ({"metric": "manhattan"}, "metric: one of cosine, euclidean expected, got 'manhattan'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        balanced_kmeans(rows(10), **{"n_clusters": 2, "generator": generator(0, "bad"), **settings})


def test_bad_points_and_centres() -> None:
    x = rows(10)
    for value in (float("nan"), float("inf")):
        wrong = x.clone()
        wrong[4, 1] = value
        with pytest.raises(DataError, match="x: row 4 is not finite"):
            clusters(wrong, 2)
        with pytest.raises(DataError, match="init: row 4 is not finite"):
            clusters(x, 10, init=wrong)
    with pytest.raises(DataError, match=r"init: shape \(2, 8\) expected, one centre a cluster, got \(3, 8\)"):
        clusters(x, 2, init=x[:3])
    with pytest.raises(DataError, match="x: a matrix"):
        clusters(x[0], 2)
    with pytest.raises(ConfigError, match="n_samples=0"):
        clusters(x[:0], 2)
