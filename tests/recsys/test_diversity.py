"""Recommendations whose items differ: against a greedy loop over all scores, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nearfar.errors import DataError, DivergedError
from nearfar.recsys import LeaveOneOut, Popularity, PopularityConfig, Recommender, SASRec, SASRecConfig
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.diversity import default_pool, diversify, relative_scores
from nearfar.recsys.retrieval import Ranked, rank_items


@pytest.fixture
def recommender(split: LeaveOneOut) -> Recommender:
    method = SASRec(SASRecConfig(dim=16, inner_dim=32, max_length=8, device="cpu"), split)
    return Recommender.from_method(method, Dataset("toy", "toy", split.data))


def greedy(
    recommender: Recommender, scores: NDArray[Any], left: list[int], k: int, alpha: float, pool: int
) -> list[str]:
    """The definition, item by item, in float64: raw ids in the order of choice."""
    vectors = recommender.item_vectors.astype(np.float64)
    pooled = sorted(left, key=lambda i: (-scores[i], i))[:pool]
    best, worst = scores[pooled[0]], scores[pooled[-1]]

    def value(i: int, chosen: list[int]) -> float:
        relevance = float(scores[i] - worst) / float(best - worst) if best > worst else 0.0
        cosines = [
            float(vectors[i] @ vectors[j]) / float(np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j]))
            for j in chosen
        ]
        return relevance if not cosines else (1 - alpha) * relevance - alpha * max(cosines)

    chosen: list[int] = []
    while len(chosen) < min(k, len(pooled)):
        chosen.append(max((i for i in pooled if i not in chosen), key=lambda i: value(i, chosen)))
    return [recommender.data.item_ids[i] for i in chosen]


def unseen(recommender: Recommender, history: list[Any]) -> list[int]:
    return [i for i, item in enumerate(recommender.data.item_ids) if item not in history]


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.6, 1])
@pytest.mark.parametrize(("k", "pool"), [(1, 1), (4, 4), (5, 12), (7, None), (9, 30)])
def test_equals_the_greedy_loop(recommender: Recommender, alpha: float, k: int, pool: int | None) -> None:
    users = ["u3", "u7", "u3", "u12", "u30"]
    frame = recommender.recommend(users, k, diversity=alpha, pool=pool, allow_short=True)
    changed = False
    for row, user in enumerate(users):
        history = recommender.history(user)
        scores = recommender.score(history).astype(np.float64)
        left = unseen(recommender, history)
        wanted = greedy(recommender, scores, left, k, alpha, pool or 100)
        part = frame.iloc[k * row : k * row + k]
        assert part["item"].tolist() == wanted
        assert part["user"].tolist() == [user] * k
        assert part["rank"].tolist() == list(range(1, k + 1))
        places = [recommender.data.item_ids.index(item) for item in wanted]
        assert np.allclose(part["score"], scores[places], atol=1e-6)
        changed |= wanted != greedy(recommender, scores, left, k, 0.0, pool or 100)
    assert changed or k == 1 or alpha < 0.3


def test_histories_candidates_and_seen_items(recommender: Recommender) -> None:
    histories = {"a": ["i1", "i2"], "b": ["i9"]}
    allowed = [f"i{n}" for n in range(0, 30, 2)]
    frame = recommender.recommend_from_histories(
        histories, 6, exclude_seen=False, allowed_items=allowed, diversity=0.5, pool=11
    )
    places = [recommender.data.item_ids.index(item) for item in allowed]
    for name, history in histories.items():
        scores = recommender.score(history).astype(np.float64)
        expected = greedy(recommender, scores, sorted(places), 6, 0.5, 11)
        assert frame[frame["user"] == name]["item"].tolist() == expected


def test_without_diversity_nothing_is_reranked(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{n}" for n in range(20)]
    usual = recommender.recommend(users, k=5)

    def never(*args: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("nearfar.recsys.inference.diversify", never)
    asked: list[int] = []

    def ranking(scorer: Any, histories: list[NDArray[np.int64]], k: int, **options: Any) -> Ranked:
        asked.append(k)
        return rank_items(scorer, histories, k, **options)

    monkeypatch.setattr("nearfar.recsys.inference.rank_items", ranking)
    off: list[dict[str, Any]] = [
        {"diversity": 0.0},
        {"diversity": 0, "pool": 20},
        {"diversity": np.float32(0)},
    ]
    for options in off:
        assert recommender.recommend(users, k=5, **options).equals(usual)
    assert asked == [5, 5, 5]
    with pytest.raises(AssertionError):
        recommender.recommend(users, k=5, diversity=0.1)
    assert asked[-1] == 30  # the default pool is larger than the catalogue


def test_rows_with_little_left(recommender: Recommender) -> None:
    everything = list(recommender.data.item_ids)
    histories = {"most": everything[3:], "all": everything, "few": ["i1"]}
    found = recommender.recommend_from_histories(
        histories, k=4, diversity=0.4, allow_short=True, as_frame=False
    )
    assert found.items.shape == found.scores.shape == (3, 4)
    assert found.counts.tolist() == [3, 0, 4]
    assert not np.isnan(found.scores).any()
    for row, (name, history) in enumerate(histories.items()):
        if name != "all":
            scores = recommender.score(history).astype(np.float64)
            expected = greedy(recommender, scores, unseen(recommender, history), 4, 0.4, 100)
            assert found.items[row][: found.counts[row]].tolist() == expected
    with pytest.raises(DataError, match="k: 3 items are left for 'most', fewer than 4"):
        recommender.recommend_from_histories(histories, k=4, diversity=0.4)
    assert len(recommender.recommend([], k=3, diversity=0.4)) == 0


def test_popular_items_after_nothing_differ_as_well(recommender: Recommender) -> None:
    counts = np.bincount(recommender.data.items, minlength=31)[1:].astype(np.float64)
    frame = recommender.recommend_from_histories([["i1"], []], k=6, diversity=0.6, pool=20)
    expected = greedy(recommender, counts, list(range(30)), 6, 0.6, 20)
    assert expected != greedy(recommender, counts, list(range(30)), 6, 0.0, 20)
    assert frame[frame["user"] == 1]["item"].tolist() == expected
    alone = recommender.recommend_from_histories([["i1"]], k=6, diversity=0.6, pool=20)
    assert frame[frame["user"] == 0]["item"].tolist() == alone["item"].tolist()


class Searched:
    """An exact index that remembers what it was asked for."""

    def __init__(self, items: NDArray[np.float32]) -> None:
        self.items = items
        self.asked: list[int] = []

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Best first."""
        self.asked.append(k)
        return np.argsort(-(queries @ self.items.T), axis=1, kind="stable")[:, :k]


def test_an_index_is_asked_for_the_whole_pool(recommender: Recommender) -> None:
    users = list(recommender.data.user_ids)
    exact = recommender.recommend(users, k=4, exclude_seen=False, diversity=0.5, pool=9)
    index = Searched(recommender.item_vectors)
    recommender.use_neighbors(index)
    found = recommender.recommend(users, k=4, exclude_seen=False, diversity=0.5, pool=9)
    assert found[["user", "item", "rank"]].equals(exact[["user", "item", "rank"]])
    assert np.allclose(found["score"], exact["score"], atol=1e-5)
    assert index.asked == [9]


def test_more_diversity_more_difference(recommender: Recommender) -> None:
    vectors = torch.nn.functional.normalize(torch.from_numpy(recommender.item_vectors), dim=1)
    index = {item: place for place, item in enumerate(recommender.data.item_ids)}
    likeness = []
    for alpha in (0, 0.3, 0.6, 1):
        found = recommender.recommend([f"u{n}" for n in range(40)], k=5, diversity=alpha, as_frame=False)
        chosen = vectors[[[index[item] for item in row] for row in found.items]]
        likeness.append(float((chosen @ chosen.mT).mean()))
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > likeness[-1] + 0.1


def test_the_size_of_pieces_changes_nothing(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"u{n}" for n in range(40)]
    whole = recommender.recommend(users, k=5, diversity=0.4)
    for numbers in (1, 3 * 30 * 16):
        monkeypatch.setattr("nearfar.recsys.diversity.NUMBERS", numbers)
        assert recommender.recommend(users, k=5, diversity=0.4).equals(whole)


def test_scale_and_shift_of_scores_do_not_matter() -> None:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 20, generator=rng).sort(1, descending=True).values
    vectors, items = torch.randn(20, 4, generator=rng), np.tile(np.arange(1, 21), (3, 1))
    counts = np.full(3, 20)
    found = [
        diversify(Ranked(items, (a * scores + b).numpy(), counts), vectors, 8, 0.5).items.tolist()
        for a, b in ((1, 0), (1e-3, 0), (1000, 500))
    ]
    assert found[0] == found[1] == found[2]
    even = Ranked(items, np.ones((3, 20), np.float32), counts)
    assert diversify(even, vectors, 8, 0.0).items.tolist() == [list(range(1, 9))] * 3


def test_relative_scores_of_all_kinds_of_rows() -> None:
    inf = torch.inf
    scores = torch.tensor([[2.0, 1.0, 0.0], [5.0, 5.0, -inf], [-inf, -inf, -inf], [1.0, -inf, -3.0]])
    assert relative_scores(scores).tolist() == [
        [1, 0.5, 0],
        [0, 0, -inf],
        [-inf, -inf, -inf],
        [1, -inf, 0],
    ]


@pytest.mark.parametrize("diversity", [-0.1, 1.01, float("nan"), float("inf"), True, "0.3", None, [0.3]])
def test_diversity_is_checked(recommender: Recommender, diversity: Any) -> None:
    with pytest.raises(DataError, match=r"diversity: a number in \[0, 1\] expected, got"):
        recommender.recommend(["u1"], k=2, diversity=diversity)
    with pytest.raises(DataError, match="diversity: a number in"):
        recommender.recommend_from_histories([["i1"]], k=2, diversity=diversity)


@pytest.mark.parametrize("pool", [2, 0, -5, 2.5, True, "9"])
@pytest.mark.parametrize("diversity", [0, 0.5])
def test_the_pool_is_checked(recommender: Recommender, pool: Any, diversity: float) -> None:
    with pytest.raises(DataError, match=r"pool: 3 to 30 \(the catalogue\) expected, got"):
        recommender.recommend(["u1"], k=3, diversity=diversity, pool=pool)


def test_a_pool_of_more_than_there_is(recommender: Recommender) -> None:
    whole = recommender.recommend(["u1", "u2"], k=3, diversity=0.5, pool=30)
    assert recommender.recommend(["u1", "u2"], k=3, diversity=0.5, pool=10**9).equals(whole)
    assert default_pool(3) == 100
    assert default_pool(50) == 500
    assert recommender.recommend(["u1", "u2"], k=3, diversity=0.5).equals(whole)


def test_models_without_vectors_cannot_tell_items_apart(split: LeaveOneOut) -> None:
    recommender = Recommender(Popularity(PopularityConfig(), split).scorer, split.data)
    assert recommender.recommend(["u1"], k=3).equals(recommender.recommend(["u1"], k=3, diversity=0.0))
    with pytest.raises(DataError, match="diversity: ItemCounts has no item vectors .* pass diversity=0"):
        recommender.recommend(["u1"], k=3, diversity=0.2)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_model_that_diverged_recommends_nothing(recommender: Recommender, wrong: float) -> None:
    with torch.no_grad():
        recommender.scorer.item.weight[7] = wrong  # type: ignore[attr-defined]
    with pytest.raises(DivergedError, match="NaN"):
        recommender.recommend(["u1"], k=2, exclude_seen=False, diversity=0.5)
