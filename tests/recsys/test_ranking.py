"""Ranks and metrics against a brute-force sort, ties included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DivergedError
from nearfar.recsys import LeaveOneOut, Popularity, PopularityConfig
from nearfar.recsys.ranking import evaluate, rank_of_target, ranking_metrics, seen_ahead, target_ranks
from nearfar.recsys.split import Split


def coarse_scores(histories: list[NDArray[np.int64]], num_items: int) -> Tensor:
    """Scores with many ties that depend on the history."""
    rows = [(np.arange(num_items) * (1 + int(history[-1])) + len(history)) % 7 for history in histories]
    return torch.tensor(np.stack(rows), dtype=torch.float32)


def brute_force(split: LeaveOneOut, part: Split, filtered: bool) -> dict[str, float]:
    """Sort all items of every user; among equals the target comes last."""
    gains: dict[str, list[float]] = {}
    for user, target in zip(split.users.tolist(), split.targets(part).tolist(), strict=True):
        history = split.history(user, part)
        scores = coarse_scores([history], split.data.num_items)[0].tolist()
        candidates = [
            item
            for item in range(1, split.data.num_items + 1)
            if not filtered or item == target or item not in history
        ]
        candidates.sort(key=lambda item: (-scores[item - 1], item == target))
        rank = candidates.index(target)
        for k in (5, 10, 20):
            gains.setdefault(f"hr_at_{k}", []).append(float(rank < k))
            gains.setdefault(f"ndcg_at_{k}", []).append(1 / math.log2(rank + 2) if rank < k else 0.0)
            gains.setdefault(f"mrr_at_{k}", []).append(1 / (rank + 1) if rank < k else 0.0)
    return {name: math.fsum(values) / len(values) for name, values in gains.items()}


@pytest.mark.parametrize("part", ["val", "test"])
def test_metrics_equal_a_brute_force_sort(split: LeaveOneOut, part: Split) -> None:
    metrics = evaluate(lambda h: coarse_scores(h, split.data.num_items), split, part)
    for protocol, filtered in (("", False), ("_filtered", True)):
        for name, value in brute_force(split, part, filtered).items():
            assert metrics[f"{name}{protocol}"] == pytest.approx(value, abs=1e-12), name


def test_batch_size_does_not_matter(split: LeaveOneOut) -> None:
    def score(histories: list[NDArray[np.int64]]) -> Tensor:
        return coarse_scores(histories, split.data.num_items)

    one = target_ranks(score, split, "test", batch_size=1)
    many = target_ranks(score, split, "test", batch_size=1000)
    assert all(np.array_equal(one[protocol], many[protocol]) for protocol in ("", "_filtered"))


def test_constant_scores_are_last() -> None:
    ranks = rank_of_target(torch.zeros(4, 9), torch.tensor([0, 3, 5, 8]))
    assert ranks.tolist() == [8, 8, 8, 8]


def test_random_scores_are_at_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    ranks = rank_of_target(torch.rand(20_000, 500, generator=rng), torch.zeros(20_000, dtype=torch.int64))
    hit = ranking_metrics(ranks.numpy())["hr_at_10"]
    chance = 10 / 500
    assert abs(hit - chance) < 3 * math.sqrt(chance * (1 - chance) / 20_000)


def test_random_scores_of_a_whole_evaluation_are_at_chance(split: LeaveOneOut) -> None:
    """Every user and history alike: 10 of V items, and of the unseen ones more when some are hidden."""
    rng = torch.Generator().manual_seed(1)
    num_items, num_users, rounds = split.data.num_items, len(split.users), 200
    hits = [
        evaluate(lambda h: torch.rand(len(h), num_items, generator=rng), split, "test", cutoffs=[5])
        for _ in range(rounds)
    ]
    chance = 5 / num_items
    found = np.mean([metrics["hr_at_5"] for metrics in hits])
    assert abs(found - chance) < 3 * math.sqrt(chance * (1 - chance) / (num_users * rounds))
    assert np.mean([metrics["hr_at_5_filtered"] for metrics in hits]) > found


@pytest.mark.row("B04", odd_inputs=1)
def test_constant_scores_find_nothing(split: LeaveOneOut) -> None:
    metrics = evaluate(lambda h: torch.zeros(len(h), split.data.num_items), split, "test", cutoffs=[5])
    assert [metrics[name] for name in ("hr_at_5", "ndcg_at_5", "mrr_at_5")] == [0, 0, 0]


def test_hiding_seen_items_never_costs_a_place(split: LeaveOneOut) -> None:
    """The target stays even where the history holds it: unseen candidates are a part of all candidates."""
    rng = torch.Generator().manual_seed(2)
    scores = torch.rand(len(split.users), split.data.num_items, generator=rng)
    ranks = target_ranks(lambda h: scores[: len(h)], split, "test", batch_size=len(split.users))
    assert (ranks["_filtered"] <= ranks[""]).all()
    assert (ranks["_filtered"] < ranks[""]).any()


@pytest.mark.row("B04", odd_inputs=1)
def test_repeated_and_tied_items_of_a_history_are_hidden_once() -> None:
    scores = torch.tensor([[3.0, 2.0, 2.0, 1.0], [3.0, 2.0, 2.0, 1.0]])
    targets, histories = torch.tensor([1, 1]), [np.array([1, 1, 3, 4, 3]), np.array([2, 4])]
    assert rank_of_target(scores, targets).tolist() == [2, 2]
    assert seen_ahead(scores, targets, histories).tolist() == [2, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_counts_are_exact_in_every_precision(dtype: torch.dtype) -> None:
    """bfloat16 cannot even hold 257."""
    scores = torch.zeros(2, 5001, dtype=dtype)
    scores[0, 7], scores[1, :3001] = 1, 1
    assert rank_of_target(scores, torch.tensor([7, 4])).tolist() == [0, 3000]


@pytest.mark.row("B04", odd_inputs=1)
def test_infinite_scores_have_a_place() -> None:
    scores = torch.tensor([[math.inf, -math.inf, 0.0], [math.inf, -math.inf, 0.0]])
    assert rank_of_target(scores, torch.tensor([0, 1])).tolist() == [0, 2]


@pytest.mark.row("B04", bad_inputs=1)
def test_nan_scores_are_an_error() -> None:
    with pytest.raises(DivergedError, match="NaN"):
        rank_of_target(torch.tensor([[1.0, math.nan]]), torch.tensor([0]))


def test_popularity_counts_training_events_only(split: LeaveOneOut) -> None:
    method = Popularity(PopularityConfig(), split)
    expected = np.zeros(split.data.num_items)
    for user in range(split.data.num_users):
        for item in split.train(user):
            expected[item - 1] += 1
    assert method.scorer.score([np.array([1])])[0].tolist() == expected.tolist()
