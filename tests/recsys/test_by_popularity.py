"""Test metrics by popularity of the target: edges against a walk over events, values against a loop over users."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nearfar.recsys import LeaveOneOut, PopularityConfig, RecsysTask, leave_one_out
from nearfar.recsys.by_popularity import metrics_by_popularity, popularity_bounds
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.popularity.method import Popularity
from nearfar.recsys.ranking import METRICS, evaluate
from nearfar.runtime import numpy_generator

NAMES = [f"{metric}_{group}" for metric in ("hr_at_10", "ndcg_at_10") for group in ("head", "medium", "tail")]


def group_of_counts(counts: list[int], share: Fraction) -> dict[int, str]:
    """Every event in a row, rarest item first; where the middle of the events of one count falls."""
    events = sorted(count for count in counts for _ in range(count))
    found = {0: "tail"}
    for count in set(events):
        places = [place for place, other in enumerate(events) if other == count]
        middle = sum((Fraction(2 * place + 1, 2 * len(events)) for place in places), Fraction()) / len(places)
        found[count] = "tail" if middle < share else "head" if middle > 1 - share else "medium"
    return found


@pytest.mark.parametrize("seed", range(8))
def test_edges_are_where_a_fifth_of_the_events_is(seed: int) -> None:
    rng = numpy_generator(seed, "counts")
    counts = np.minimum(rng.zipf(1.6, size=int(rng.integers(1, 60))), 40) - (seed % 2)
    counts[0] = 7
    expected = group_of_counts(counts.tolist(), Fraction(1, 5))
    low, high = popularity_bounds(counts)
    assert low <= high
    for count in counts.tolist():
        assert expected[count] == ("tail" if count < low else "head" if count > high else "medium")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([4, 4, 4], (4, 4)),  # all alike: neither head nor tail
        ([9], (9, 9)),
        ([0, 0, 3], (3, 3)),  # never trained on: the tail
        ([1, 9], (9, 9)),
        ([1, 2, 3, 4], (2, 4)),  # the middles of 2 and 4 are the edges themselves
        ([1, 1, 1, 1, 5, 6, 5], (5, 5)),
        ([1, 1, 1, 4, 9], (4, 9)),  # the most popular item alone has more than half of the events
    ],
)
def test_few_counts(counts: list[int], expected: tuple[int, int]) -> None:
    assert popularity_bounds(np.array(counts)) == expected


def skewed(users: int = 150) -> LeaveOneOut:
    """Items by a power law."""
    rng = numpy_generator(0, "skewed")
    weights = 1 / np.arange(1, 61)
    rows = [
        rng.choice(60, size=8, replace=False, p=weights / weights.sum()).astype(str).tolist()
        for _ in range(users)
    ]
    return leave_one_out(Interactions.from_sequences(rows))


def test_values_equal_a_loop_over_users() -> None:
    split = skewed()
    ranks = numpy_generator(1, "ranks").integers(0, 25, size=len(split.users))
    counts = [0] * split.data.num_items
    for user in range(split.data.num_users):
        for item in split.train(user).tolist():
            counts[item - 1] += 1
    groups = group_of_counts(counts, Fraction(1, 5))
    hits: dict[str, list[float]] = {}
    for user, rank in zip(split.users.tolist(), ranks.tolist(), strict=True):
        target = int(split.data.sequence(user)[-1])
        group = groups[counts[target - 1]]
        hits.setdefault(f"hr_at_10_{group}", []).append(float(rank < 10))
        hits.setdefault(f"ndcg_at_10_{group}", []).append(1 / math.log2(rank + 2) if rank < 10 else 0.0)
    found = metrics_by_popularity(ranks, split)
    assert sorted(found) == NAMES
    for name, values in hits.items():
        assert found[name] == pytest.approx(math.fsum(values) / len(values), abs=1e-12)
        assert len(values) >= 10, "every group has users to speak of"


def test_a_group_without_a_user_is_left_out() -> None:
    split = leave_one_out(Interactions.from_sequences([["a", "b", "a", "b"]] * 5))
    assert metrics_by_popularity(np.arange(5), split).keys() == {"hr_at_10_medium", "ndcg_at_10_medium"}


def test_popularity_finds_the_head_only() -> None:
    split = skewed()
    scorer = Popularity(PopularityConfig(), split).scorer
    place = np.argsort(np.argsort(-scorer.counts.numpy(), kind="stable"))
    found = metrics_by_popularity(place[split.targets("test") - 1], split)
    assert found["hr_at_10_head"] == 1
    assert found["hr_at_10_tail"] == 0


def test_the_task_adds_them_on_test_only(toy_file: Path, tmp_path: Path) -> None:
    config = PopularityConfig(data=str(toy_file), device="cpu")
    task = RecsysTask(config, Popularity)
    method = task.build(config)
    score = Popularity(config, task.split).scorer.score
    validated = task.evaluate(method, "val")
    assert validated == evaluate(score, task.split, "val")
    assert list(validated) == list(METRICS) == list(RecsysTask.metrics), "what selection may name"
    tested = task.test(method, tmp_path)
    assert list(tested) == [*METRICS, *NAMES]
    assert task.evaluate(method, "test") == tested
    assert {name: tested[name] for name in METRICS} == evaluate(score, task.split, "test")
    cases = task.read_cases(tmp_path / "ranks.npz", ["hr_at_10"])
    assert cases.values["hr_at_10"].mean() == tested["hr_at_10"]
    low, high = popularity_bounds(task.split.item_counts())
    often = task.split.item_counts()[task.split.targets("test") - 1]
    sizes = {"head": (often > high).sum(), "tail": (often < low).sum()}
    sizes["medium"] = len(often) - sizes["head"] - sizes["tail"]
    assert all(sizes.values())
    for metric in ("hr_at_10", "ndcg_at_10"):
        whole = sum(size * tested[f"{metric}_{group}"] for group, size in sizes.items()) / len(often)
        assert whole == pytest.approx(tested[metric])
