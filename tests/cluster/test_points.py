"""Scores and sums are exact: against fractions, and the same bits in whatever order they are computed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.cluster import points as module
from nearfar.cluster.points import METRICS, Metric, Points, row_sums, unit_rows


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_row_sums() -> None:
    for d in (1, 2, 3, 7, 128, 129):
        x = rows(5, d)
        assert torch.allclose(row_sums(x), x.sum(1), rtol=1e-14)


def test_unit_rows_of_any_size() -> None:
    x = torch.cat([rows(4, 6) * 1e300, rows(4, 6) * 1e-300, torch.zeros(1, 6, dtype=torch.float64)])
    length = torch.linalg.vector_norm(unit_rows(x), dim=1)
    assert torch.allclose(length, torch.tensor([1.0] * 8 + [0.0], dtype=torch.float64), atol=1e-15)


def exact_score(point: Tensor, center: Tensor, metric: Metric) -> float:
    x, c = ([Fraction(value) for value in row.double().tolist()] for row in (point, center))
    product = sum((a * b for a, b in zip(x, c, strict=True)), Fraction())
    if metric == "cosine":
        return float(np.float32(float(product - 1)))
    # The squared length of a centre alone is rounded, to 2^-50.
    half = Fraction(round(sum((b * b for b in c), Fraction()) * 2**49), 2**50)
    return float(np.float32(float(product - sum((a * a for a in x), Fraction()) / 2 - half)))


@pytest.mark.parametrize("metric", METRICS)
def test_scores_against_fractions(metric: Metric) -> None:
    points = Points.of(rows(12, 37).float() + 3, metric)
    centers = points.centers_from(rows(5, 37, 1) + 3) if metric == "cosine" else points.rows[:5].double()
    found = points.scores(centers)
    expected = [[exact_score(x, c, metric) for c in centers] for x in points.rows]
    assert found.tolist() == expected


@pytest.mark.parametrize("metric", METRICS)
def test_order_and_blocks_change_no_bit(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(3000, 100).float()
    points = Points.of(x, metric)
    labels = torch.arange(3000) % 7
    sums, sizes = points.sums(labels, 7)
    centers = points.centers(sums, sizes)
    scores = points.scores(centers)
    turned = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    columns = Points(points.rows[:, turned].contiguous(), metric, points.shift[turned], points.scale)
    assert torch.equal(columns.sums(labels, 7)[0], sums[:, turned])
    if (
        metric == "cosine"
    ):  # squared lengths of centres are added in a fixed order, so columns have to stay in theirs
        assert torch.equal(columns.scores(centers[:, turned]), scores)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(2))
    again = points.take(order)
    assert torch.equal(again.sums(labels[order], 7)[0], sums)
    monkeypatch.setattr(module, "FEWEST", 17)
    monkeypatch.setattr(module, "BLOCK", 1)
    monkeypatch.setattr(module, "ROWS", 13)
    assert torch.equal(again.scores(centers), scores[order])
    assert torch.equal(Points.of(x, metric).rows, points.rows)
    assert again.objective(sums, sizes) == pytest.approx(points.objective(sums, sizes), rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_and_objective_by_definition(metric: Metric) -> None:
    x = rows(60, 9) * 5 + 100 * (metric == "euclidean")
    points = Points.of(x, metric)
    labels = torch.arange(60) % 4
    sums, sizes = points.sums(labels, 4)
    centers = points.centers_to(points.centers(sums, sizes))
    if metric == "cosine":
        units = torch.nn.functional.normalize(x, dim=1)
        means = torch.stack([units[labels == j].mean(0) for j in range(4)])
        expected = torch.nn.functional.normalize(means, dim=1)
        score = units @ expected.T
        found = points.scores(points.centers_from(expected)) + 1
    else:
        expected = torch.stack([x[labels == j].mean(0) for j in range(4)])
        score = -torch.cdist(x, expected).square()
        found = 2 * points.scores(points.centers_from(expected)) * points.scale**2
    assert torch.allclose(centers, expected, atol=1e-5)
    assert torch.allclose(found.double(), score, rtol=1e-5, atol=1e-6)
    by_hand = score.gather(1, labels[:, None]).mean().item()
    assert points.objective(sums, sizes) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_any_scale(size: float) -> None:
    """Euclidean rows of any size are the same points, up to a power of two."""
    x = rows(50, 3)
    points, plain = Points.of(x * size, "euclidean"), Points.of(x, "euclidean")
    ratio = plain.scale * size / points.scale
    assert torch.allclose(points.rows.double(), plain.rows.double() * ratio, atol=1e-6)
    assert 0.25 <= torch.linalg.vector_norm(points.rows, dim=1).max() <= 1


def test_equal_rows() -> None:
    points = Points.of(torch.full((4, 3), 7.0), "euclidean")
    assert torch.equal(points.rows, torch.zeros(4, 3))
    assert points.centers_to(torch.zeros(1, 3, dtype=torch.float64)).tolist() == [[7.0] * 3]
