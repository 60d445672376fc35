"""Nearest mean and neighbours' votes, against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels import default_neighbors
from nearfar.longtail.heads import NeighborVote, fit_head

LABELS = [0] * 20 + [1] * 6 + [3] * 2


def rows(n: int, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5


@pytest.mark.parametrize("k", [1, 5, 28, 99])
def test_votes_against_a_loop(k: int) -> None:
    x, queries = rows(28, 0), rows(40, 1)
    found = fit_head(x, LABELS, 4, kind="knn", neighbors=k)(queries)
    for query, logits in zip(queries, found.tolist(), strict=True):
        near = sorted(range(28), key=lambda i: -torch.cosine_similarity(query, x[i], dim=0).item())[:k]
        for c in (0, 1, 3):
            votes = sum(LABELS[i] == c for i in near)
            assert logits[c] == pytest.approx(math.log(votes / LABELS.count(c) + 1 / 28), abs=1e-6)
        assert logits[2] == -math.inf


def test_default_neighbors() -> None:
    head = fit_head(rows(28, 0), LABELS, 4, kind="knn")
    assert isinstance(head, NeighborVote)
    assert head.k == default_neighbors(28) == 10


def test_a_row_that_points_nowhere() -> None:
    logits = fit_head(rows(28, 0), LABELS, 4, kind="knn")(torch.zeros(1, 4, dtype=torch.float64))[0]
    assert logits[0] == logits[1] == logits[3]


def test_no_row_and_wrong_rows() -> None:
    head = fit_head(rows(28, 0), LABELS, 4, kind="knn")
    assert head(torch.zeros(0, 4, dtype=torch.float64)).shape == (0, 4)
    with pytest.raises(DataError, match="float64 with 4 columns|float32 with 4 columns"):
        head(torch.zeros(1, 4))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_nearest_mean_against_a_loop(metric: str, offset: float) -> None:
    x, queries = rows(28, 2) + offset, rows(200, 3) + offset
    logits = fit_head(x, LABELS, 4, kind="nearest_mean", metric=metric)(queries)
    labels = torch.tensor(LABELS)
    for query, found in zip(queries, logits.detach(), strict=True):
        if metric == "euclidean":
            scores = {c: -(query - x[labels == c].mean(0)).square().sum().item() / 2 for c in (0, 1, 3)}
        else:
            unit = x / x.norm(dim=1, keepdim=True)
            means = {c: unit[labels == c].mean(0) for c in (0, 1, 3)}
            scores = {c: 30 * torch.cosine_similarity(query, means[c], dim=0).item() for c in means}
        assert found.argmax().item() == max(scores, key=lambda c: scores[c])
        # Up to a constant of the row.
        assert (found[1] - found[0]).item() == pytest.approx(scores[1] - scores[0], rel=1e-4, abs=1e-6)
