"""Approximate neighbours: what the self-check measures and refuses, and recommendations through an index."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError, MissingDependencyError
from nearfar.optional import installed
from nearfar.recsys import LeaveOneOut, Popularity, PopularityConfig, Recommender, SASRec, SASRecConfig
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.neighbors import (
    USearchNeighbors,
    build_neighbors,
    lift_items,
    recall_against_exact,
)


class Forgetful:
    """Exact search that never finds some of the items, and is asked for more by whoever wants to know."""

    def __init__(self, items: NDArray[np.float32], forgotten: int = 0) -> None:
        self.items, self.forgotten = items, forgotten
        self.asked: list[tuple[int, int]] = []

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """The best of those it remembers; -1 where there are no more."""
        self.asked.append((len(queries), k))
        scores = queries @ self.items.T
        scores[:, : self.forgotten] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.where(np.take_along_axis(scores, order, 1) > -np.inf, order, -1)


def vectors(count: int, seed: int, dim: int = 8) -> NDArray[np.float32]:
    """Normal vectors of different lengths."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, dim)) * rng.uniform(0.2, 3, size=(count, 1))).astype(np.float32)


@pytest.fixture
def recommender(split: LeaveOneOut) -> Recommender:
    method = SASRec(SASRecConfig(dim=16, inner_dim=32, max_length=8, device="cpu"), split)
    return Recommender.from_method(method, Dataset("toy", "toy", split.data))


def test_recall_is_the_share_that_is_found() -> None:
    items, queries = vectors(200, 0), vectors(50, 1)
    exact = np.argsort(-(queries.astype(float) @ items.astype(float).T), axis=1)[:, :10]
    assert recall_against_exact(Forgetful(items), items, queries, 10) == 1
    for forgotten in (1, 20, 195):
        expected = (exact >= forgotten).mean()
        found = recall_against_exact(Forgetful(items, forgotten), items, queries, 10)
        assert found == pytest.approx(expected)


def test_an_item_counts_once_and_an_equal_one_counts_as_well() -> None:
    items = np.array([[1.0], [1.0], [0.5]], dtype=np.float32)
    query = np.array([[2.0]], dtype=np.float32)

    class Fixed:
        def __init__(self, *found: int) -> None:
            self.found = found

        def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
            return np.array([self.found])

    assert recall_against_exact(Fixed(1), items, query, 1) == 1
    assert recall_against_exact(Fixed(0, 0), items, query, 2) == 0.5
    assert recall_against_exact(Fixed(0, -1), items, query, 2) == 0.5
    assert recall_against_exact(Fixed(1, 0), items, query, 2) == 1
    assert recall_against_exact(Fixed(2, 0), items, query, 2) == 0.5


def test_an_index_that_misses_too_much_is_refused() -> None:
    items, queries = vectors(200, 0), vectors(1000, 1)
    good = build_neighbors(items, queries, k=10, backend=Forgetful)
    assert isinstance(good, Forgetful)
    assert good.asked == [(256, 10)]
    with pytest.raises(ConfigError, match=r"finds 0\.\d+ of the 10 best items, min_recall is 0.95: raise"):
        build_neighbors(items, queries, k=10, backend=lambda v: Forgetful(v, 40))
    lenient = build_neighbors(items, queries, k=10, min_recall=0.5, backend=lambda v: Forgetful(v, 40))
    assert isinstance(lenient, Forgetful)
    for wrong in ({"min_recall": 0.0}, {"min_recall": 1.5}, {"k": 0}, {"k": 201}):
        with pytest.raises(ConfigError, match="are needed"):
            build_neighbors(items, queries, **wrong, backend=Forgetful)
    with pytest.raises(ConfigError, match="0 queries"):
        build_neighbors(items, queries[:0], backend=Forgetful)


def test_lifted_vectors_sort_by_angle_as_inner_products_do() -> None:
    items, queries = vectors(300, 2).astype(np.float32), vectors(20, 3)
    lifted = lift_items(items).astype(np.float64)
    assert np.allclose(np.linalg.norm(lifted, axis=1), np.linalg.norm(items, axis=1).max(), rtol=1e-6)
    cosine = np.pad(queries, ((0, 0), (0, 1))) @ lifted.T
    assert np.array_equal(
        np.argsort(-cosine, axis=1)[:, :20], np.argsort(-(queries @ items.T), axis=1)[:, :20]
    )


def test_recommendations_through_an_index_that_finds_everything_are_the_exact_ones(
    recommender: Recommender,
) -> None:
    users = list(recommender.data.user_ids)
    exact = {seen: recommender.recommend(users, k=5, exclude_seen=seen) for seen in (True, False)}
    some = recommender.recommend(users, k=5, exclude_seen=False, blocked_items=["i1"])
    index = Forgetful(recommender.item_vectors)
    recommender.use_neighbors(index)
    for seen, expected in exact.items():
        found = recommender.recommend(users, k=5, exclude_seen=seen)
        assert found[["user", "item", "rank"]].equals(expected[["user", "item", "rank"]])
        assert np.allclose(found["score"], expected["score"], atol=1e-5)
    assert len(index.asked) == 2
    assert recommender.recommend(users, k=5, exclude_seen=False, blocked_items=["i1"]).equals(some)
    assert len(index.asked) == 2
    recommender.use_neighbors(None)
    assert recommender.recommend(users, k=5).equals(exact[True])


def test_rows_an_index_finds_too_little_for_are_searched_exactly(recommender: Recommender) -> None:
    users = list(recommender.data.user_ids)
    exact = recommender.recommend(users, k=5)
    recommender.use_neighbors(Forgetful(recommender.item_vectors, 30))
    assert recommender.recommend(users, k=5).equals(exact)
    assert len(recommender.recommend([], k=5)) == 0


def test_models_without_vectors_have_no_neighbors(split: LeaveOneOut) -> None:
    recommender = Recommender(Popularity(PopularityConfig(), split).scorer, split.data)
    with pytest.raises(DataError, match="no user and item vectors"):
        recommender.use_neighbors(Forgetful(vectors(30, 0)))


@pytest.mark.skipif(installed("usearch"), reason="usearch is installed")
def test_the_package_that_is_missing_is_named() -> None:
    with pytest.raises(MissingDependencyError, match=r'needs usearch.*pip install "nearfar\[ann\]"'):
        build_neighbors(vectors(20, 0), vectors(5, 1), k=5)


def test_usearch() -> None:
    pytest.importorskip("usearch", reason="usearch is not installed")
    items, queries = vectors(3000, 0, 16), vectors(300, 1, 16)
    found = build_neighbors(items, queries, min_recall=0.95)
    assert isinstance(found, USearchNeighbors)
    assert recall_against_exact(found, items, queries, 20) >= 0.95
    alone = found.search(queries[:1], 7)
    assert alone.shape == (1, 7)
    assert len(set(alone[0].tolist())) == 7
    few = USearchNeighbors(items[:3]).search(queries[:2], 5)
    assert few.shape == (2, 5)
    assert np.sort(few, axis=1).tolist() == [[-1, -1, 0, 1, 2]] * 2
