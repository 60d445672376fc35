"""Seeds: rows of the points, all different, and far ones more often."""

from __future__ import annotations

import pytest
import torch

from nearfar.cluster import seeding
from nearfar.cluster.points import METRICS, Metric, Points
from nearfar.cluster.seeding import seeds
from nearfar.runtime import generator


@pytest.mark.parametrize("metric", METRICS)
def test_the_second_seed_is_drawn_by_squared_distance(metric: Metric) -> None:
    """Frequencies over 4000 draws against the law, point by point, within five standard deviations."""
    x = torch.randn(6, 2, generator=generator(0, "points"))
    points = Points.of(x, metric)
    distance = -points.scores(points.rows.double()).double()
    law = (distance / distance.sum(1, keepdim=True)).mean(0)
    count, rng = torch.zeros(6), generator(0, "draws")
    draws = 4000
    for _ in range(draws):
        second = seeds(points, 2, rng)[1]
        count[(points.rows == second.float()).all(1)] += 1
    spread = (law * (1 - law) / draws).sqrt()
    assert ((count / draws - law).abs() < 5 * spread).all()


@pytest.mark.parametrize("m", [1, 2, 50, 200])
def test_no_row_twice(m: int) -> None:
    points = Points.of(torch.randn(200, 4, generator=generator(0, "points")), "cosine")
    found = seeds(points, m, generator(0, "seeds"))
    assert len(found.unique(dim=0)) == m == len(found)
    assert all((points.rows == row.float()).all(1).any() for row in found)


def test_copies_are_taken_when_nothing_else_is_left() -> None:
    x = torch.eye(3).repeat_interleave(10, 0)
    found = seeds(Points.of(x, "cosine"), 5, generator(0, "seeds"))
    assert found.shape == (5, 3)
    assert len(found.unique(dim=0)) == 3
    assert seeds(Points.of(torch.zeros(4, 2), "cosine"), 4, generator(0, "seeds")).tolist() == [[0.0] * 2] * 4


def test_every_planted_cluster_is_found_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "FEWEST", 40)
    monkeypatch.setattr(seeding, "SAMPLE", 10)
    x = torch.eye(10).repeat(50, 1) + 1e-3 * torch.randn(500, 10, generator=generator(0, "noise"))
    found = seeds(Points.of(x, "cosine"), 10, generator(0, "seeds"))
    assert found.argmax(1).sort().values.tolist() == list(range(10))
