"""The k best tile by tile, against one full stable sort in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DivergedError
from nearfar.recsys.topk import stable_top, top_k


class Matrix:
    """Tiles of scores that are all there."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def __call__(self, part: slice) -> Tensor:
        return self.scores[:, part].clone()


def by_sorting(
    scores: NDArray[np.float64], k: int, hidden: list[NDArray[np.int64]]
) -> tuple[list[list[float]], list[list[int]]]:
    """Scores and places of the k best of every row; shorter where fewer are left."""
    values, places = [], []
    for row, excluded in zip(scores, hidden, strict=True):
        order = [int(i) for i in np.argsort(-row, kind="stable") if i not in excluded][:k]
        values.append([float(row[i]) for i in order])
        places.append(order)
    return values, places


@pytest.mark.parametrize("levels", [2, 5, 1000, None])
@pytest.mark.parametrize("tile", [1, 7, 64, 1000])
def test_equals_a_full_stable_sort(levels: int | None, tile: int) -> None:
    rng = np.random.default_rng(levels or 0)
    for k in (1, 3, 20, 200):
        shape = (17, 200)
        scores = rng.normal(size=shape)
        if levels is not None:
            scores = np.floor(scores * levels)
        hidden = [rng.integers(200, size=int(rng.integers(60))) for _ in range(17)]
        hidden[3] = np.arange(200)
        hidden[4] = np.arange(195)
        best, index = top_k(Matrix(torch.from_numpy(scores)), 17, 200, k, hidden=hidden, tile=tile)
        assert best.dtype == torch.float64
        assert best.shape == index.shape == (17, k)
        values, places = by_sorting(scores, k, hidden)
        for row in range(17):
            left = len(values[row])
            assert best[row, :left].tolist() == values[row]
            assert index[row, :left].tolist() == places[row]
            assert torch.isinf(best[row, left:]).all()


def test_products_of_vectors_equal_the_sort_of_the_full_matrix() -> None:
    """Small integers, so that float32 is exact and equal scores are many."""
    rng = torch.Generator().manual_seed(0)
    users, items = (torch.randint(-3, 4, (n, 8), generator=rng).float() for n in (30, 500))
    best, index = top_k(lambda part: users @ items[part].T, 30, 500, 10, tile=33)
    values, places = by_sorting((users.double() @ items.double().T).numpy(), 10, [np.empty(0, np.int64)] * 30)
    assert best.tolist() == values
    assert index.tolist() == places


def test_zeros_of_both_signs_are_equal() -> None:
    scores = torch.tensor([[-0.0, 0.0, -0.0, 0.0]])
    assert stable_top(scores, 3)[1].tolist() == [[0, 1, 2]]


def test_tiles_are_what_memory_is_needed_for() -> None:
    asked: list[tuple[int, ...]] = []

    def tiles(part: slice) -> Tensor:
        made = torch.arange(part.start, part.stop, dtype=torch.float32).repeat(2, 1)
        asked.append(tuple(made.shape))
        return made

    best, index = top_k(tiles, 2, 100_000, 3, tile=512)
    assert index.tolist() == [[99_999, 99_998, 99_997]] * 2
    assert best.tolist() == [[99_999.0, 99_998.0, 99_997.0]] * 2
    assert max(asked) == (2, 512)
    assert len(asked) == 196


def test_nan_is_no_recommendation() -> None:
    scores = torch.zeros(2, 10)
    scores[1, 4] = torch.nan
    with pytest.raises(DivergedError, match="NaN"):
        top_k(Matrix(scores), 2, 10, 2, tile=3)
    with pytest.raises(DivergedError, match="NaN"):
        top_k(Matrix(torch.tensor([[torch.nan, torch.nan, 1, 1]])), 1, 4, 3)
    # Infinity from the model is a score like any other; what is hidden is not returned in its place.
    scores = torch.full((1, 4), torch.inf)
    best, index = top_k(Matrix(scores), 1, 4, 3, hidden=[np.array([0])], tile=2)
    assert (best.tolist(), index.tolist()) == ([[torch.inf] * 3], [[1, 2, 3]])


def test_no_rows_and_no_candidates() -> None:
    best, index = top_k(lambda part: torch.zeros(0, part.stop - part.start), 0, 10, 3)
    assert best.shape == index.shape == (0, 3)
    best, index = top_k(lambda part: torch.zeros(2, 0), 2, 0, 0)
    assert best.shape == index.shape == (2, 0)
