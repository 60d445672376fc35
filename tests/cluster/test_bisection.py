"""Halving: sizes, and the best cut there is."""

from __future__ import annotations

import pytest
import torch

from nearfar.cluster import bisection, optimal_assignment
from nearfar.cluster.bisection import pieces
from nearfar.cluster.points import METRICS, Metric, Points
from nearfar.runtime import generator


def points(n: int, metric: Metric = "cosine") -> Points:
    return Points.of(torch.randn(n, 5, generator=generator(0, "points", n)), metric)


@pytest.mark.parametrize("most", [0, 40])
@pytest.mark.parametrize(("n", "m"), [(100, 7), (64, 64), (65, 64), (127, 64), (300, 1), (999, 13)])
def test_pieces(n: int, m: int, most: int) -> None:
    found = pieces(points(n), m, most, generator(0, "cuts"))
    assert sum(count for _, count in found) == m
    assert torch.equal(torch.cat([rows for rows, _ in found]).sort().values, torch.arange(n))
    for rows, count in found:
        assert count == 1 or len(rows) <= most
        assert n // m * count <= len(rows) <= (n // m + (n % m > 0)) * count
        assert (rows.diff() > 0).all()


@pytest.mark.parametrize("sample", [50, 2**14])
@pytest.mark.parametrize("metric", METRICS)
def test_a_cut_is_the_best_assignment_to_its_two_centres(
    metric: Metric, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    pairs = []
    along = bisection._along

    def seen(points: Points, pair: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        pairs.append(pair)
        return along(points, pair, rows)

    monkeypatch.setattr(bisection, "_along", seen)
    monkeypatch.setattr(bisection, "SAMPLE", sample)
    given = points(201, metric)
    (first, _), (second, _) = sorted(pieces(given, 2, 0, generator(0, "cuts")), key=lambda p: len(p[0]))
    assert {len(first), len(second)} == {100, 101}
    scores = given.scores(pairs[-1]).double()
    ours = torch.zeros(201, dtype=torch.int64)
    inside = along(given, pairs[-1], first).mean() < along(given, pairs[-1], second).mean()
    ours[first if inside else second] = 1
    sizes = ours.bincount(minlength=2)
    best = scores.gather(1, optimal_assignment(scores, sizes)[:, None]).sum()
    assert scores.gather(1, ours[:, None]).sum().item() == pytest.approx(best.item(), rel=1e-7)
