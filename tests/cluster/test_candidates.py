"""Lists of near centres: with all centres compared the answer is the greedy one, however short the lists are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.cluster import candidates, greedy_assignment
from nearfar.cluster.candidates import best_columns, listed_assignment
from nearfar.cluster.points import Points
from nearfar.runtime import generator


def points_and_centers(n: int, m: int, d: int = 8) -> tuple[Points, Tensor]:
    x = torch.randn(n, d, generator=generator(0, "points", n, m))
    points = Points.of(x, "cosine")
    return points, points.centers_from(torch.randn(m, d, generator=generator(0, "centers", n, m)))


@pytest.mark.parametrize("listed", [1, 3, 16])
@pytest.mark.parametrize(("n", "m"), [(400, 20), (413, 20), (500, 150), (90, 90)])
def test_greedy_if_all_centres_are_compared(
    n: int, m: int, listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "LISTED", listed)
    monkeypatch.setattr(candidates, "RENEWED", 10**6)
    monkeypatch.setattr(candidates, "STEP", 37)
    points, centers = points_and_centers(n, m)
    scores = points.scores(centers)
    demand = scores.argmax(1).bincount(minlength=m)
    capacities = torch.full((m,), n // m)
    capacities[demand.argsort(descending=True, stable=True)[: n % m]] += 1
    found = listed_assignment(points, centers, generator(0, "groups"))
    assert torch.equal(found, greedy_assignment(scores, capacities))


@pytest.mark.parametrize(("n", "m"), [(3000, 300), (3100, 299)])
def test_groups_of_centres(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are compared: sizes are exact all the same, and little is lost."""
    monkeypatch.setattr(candidates, "GROUP", 10)
    monkeypatch.setattr(candidates, "COMPARED", 80)
    points, centers = points_and_centers(n, m)
    found = listed_assignment(points, centers, generator(0, "groups"))
    sizes = found.bincount(minlength=m)
    assert sizes.min() >= n // m
    assert sizes.max() <= -(-n // m)
    scores = points.scores(centers) + 1
    ours, all_pairs = (
        scores.gather(1, labels[:, None]).mean() for labels in (found, greedy_assignment(scores))
    )
    assert ours > 0.97 * all_pairs


def test_the_same_points_a_thousand_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them want the same centres, so that every list runs out again and again."""
    monkeypatch.setattr(candidates, "LISTED", 2)
    monkeypatch.setattr(candidates, "RENEWED", 10**6)
    points, centers = points_and_centers(1, 50)
    many = points.take(torch.zeros(1000, dtype=torch.int64))
    found = listed_assignment(many, centers, generator(0, "groups"))
    assert torch.equal(found, greedy_assignment(many.scores(centers)))


@pytest.mark.parametrize(("n", "m"), [(400, 20), (413, 20), (500, 150)])
def test_the_last_points_take_what_is_left(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After no, and after one, new list: sizes are exact, and not much is lost."""
    monkeypatch.setattr(candidates, "LISTED", 1)
    points, centers = points_and_centers(n, m)
    scores = points.scores(centers) + 1
    exact = scores.gather(1, greedy_assignment(scores)[:, None]).mean()
    for renewed in (0, 1):
        monkeypatch.setattr(candidates, "RENEWED", renewed)
        found = listed_assignment(points, centers, generator(0, "groups"))
        assert set(found.bincount(minlength=m).tolist()) <= {n // m, -(-n // m)}
        assert scores.gather(1, found[:, None]).mean() > 0.9 * exact


@pytest.mark.parametrize(("c", "count"), [(16, 16), (100, 3), (1000, 16), (1003, 16), (64, 4)])
def test_best_columns(c: int, count: int) -> None:
    score = torch.randn(50, c, generator=torch.Generator().manual_seed(0))
    score[:5] = torch.where(score[:5] > 1, score[:5], -torch.inf)
    value, column = best_columns(score, count)
    assert torch.equal(value.sort(1).values, score.topk(count, dim=1).values.flip(1))
    assert torch.equal(score.gather(1, column), value)
    assert (column.diff(dim=1) > 0).all()
