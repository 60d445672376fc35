"""MMR against a greedy loop over lists, and its limits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DivergedError
from nearfar.recsys.mmr import mmr_rerank


def draws(rows: int = 4, items: int = 15, dim: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(rows, items, generator=rng, dtype=torch.float64)
    return scores, torch.randn(items, dim, generator=rng, dtype=torch.float64)


def slow(scores: list[float], emb: Tensor, n: int, alpha: float) -> list[int]:
    """The definition, item by item."""

    def cosine(i: int, j: int) -> float:
        return float(torch.nn.functional.cosine_similarity(emb[i], emb[j], dim=0))

    chosen: list[int] = []
    for _ in range(n):
        left = [i for i in range(len(scores)) if i not in chosen and scores[i] > -math.inf]
        if not chosen:
            value = dict(zip(left, (scores[i] for i in left), strict=True))
        else:
            value = {i: (1 - alpha) * scores[i] - alpha * max(cosine(i, j) for j in chosen) for i in left}
        chosen.append(max(left, key=lambda i: value[i]))
    return chosen


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("n", [1, 5, 12])
@pytest.mark.parametrize("own", [False, True])
def test_equals_the_greedy_loop(alpha: float, n: int, own: bool) -> None:
    scores, emb = draws()
    scores[:, [2, 7, 8]] = -math.inf
    each = torch.stack([emb.roll(row, 0) * (row + 1) for row in range(4)]) if own else emb.expand(4, -1, -1)
    values, places = mmr_rerank(scores, each if own else emb, n, alpha)
    for row in range(4):
        assert places[row].tolist() == slow(scores[row].tolist(), each[row], n, alpha)
    assert torch.equal(values, scores.gather(1, places))


def test_no_weight_on_difference_gives_the_best() -> None:
    scores, emb = draws()
    assert torch.equal(mmr_rerank(scores, emb, 6, 0.0)[1], scores.topk(6).indices)
    tied = torch.tensor([[1.0, 3.0, 3.0, 2.0, 3.0, 2.0]])
    expected = np.argsort(-tied.numpy()[0], kind="stable").tolist()
    assert mmr_rerank(tied, torch.eye(6), 6, 0.0)[1].tolist() == [expected]


def test_copies_come_last() -> None:
    emb = torch.tensor([[1.0, 0], [2, 0], [3, 0], [0, 1]])
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.3]])
    assert mmr_rerank(scores, emb, 4, 0.6)[1].tolist() == [[0, 3, 1, 2]]
    # Even alone with difference, the best is the first.
    assert mmr_rerank(scores.flip(1), emb.flip(0), 2, 1.0)[1].tolist() == [[3, 0]]


def test_fewer_candidates_than_wanted() -> None:
    scores = torch.tensor([[0.5, -math.inf, -math.inf], [0.5, 0.1, 0.2], [-math.inf] * 3])
    values, places = mmr_rerank(scores, torch.eye(3), 3, 0.5)
    assert values[0].tolist() == [0.5, -math.inf, -math.inf]
    assert places[1].tolist() == [0, 2, 1]
    assert values[2].tolist() == [-math.inf] * 3
    assert ((places >= 0) & (places < 3)).all()
    assert [sorted(row) for row in places.tolist()] == [[0, 1, 2]] * 3


def test_half_precision_scores() -> None:
    scores, emb = (x.half() for x in draws())
    values, places = mmr_rerank(scores, emb, 5)
    assert values.dtype == torch.float16
    assert torch.equal(places, mmr_rerank(scores.float(), emb.float(), 5)[1])


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "scores: floating point", {"scores": torch.ones(2, 3, dtype=torch.int64)}),
        (ValueError, "scores: .* M at least 1", {"scores": torch.ones(2, 0)}),
        (ValueError, r"item_emb: \(3, d\) or \(2, 3, d\)", {"item_emb": torch.ones(4, 2)}),
        (ValueError, "item_emb: finite", {"item_emb": torch.full((3, 2), math.nan)}),
        (ConfigError, "n: 1 to the 3 candidates", {"n": 4}),
        (ConfigError, "n: 1 to the 3 candidates", {"n": 0}),
        (ConfigError, "alpha: a number in", {"alpha": 1.5}),
        (DivergedError, "scores: .* NaN", {"scores": torch.full((2, 3), math.nan)}),
        (DivergedError, "scores: .* infinity", {"scores": torch.full((2, 3), math.inf)}),
    ],
)
def test_bad_arguments_are_named(error: type[Exception], message: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"scores": torch.ones(2, 3), "item_emb": torch.ones(3, 2), "n": 2}
    with pytest.raises(error, match=message):
        mmr_rerank(**usual | options)
