"""Mean rank variance against sorted lists."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.mean_rank_variance import mean_rank_variance
from nearfar.testing import LargestTensor


def draws(n: int = 20, views: int = 3, dim: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    first = torch.randn(n, dim, generator=rng, dtype=torch.float64)
    return first, first + torch.randn(views, n, dim, generator=rng, dtype=torch.float64)


def slow(first: Tensor, more: Tensor) -> float:
    """The definition: sort, look up the place, take the variance."""
    total = []
    for i, query in enumerate(first):
        ranks = []
        for keys in more:
            cosine = torch.nn.functional.cosine_similarity(query[None], keys).tolist()
            ranks.append(sorted(range(len(keys)), key=lambda j: -cosine[j]).index(i) + 1)
        total.append(statistics.pvariance(ranks))
    return math.fsum(total) / len(total)


@pytest.mark.parametrize("views", [1, 2, 5])
@pytest.mark.parametrize("numbers", [1, 70, 2**22])
def test_equals_the_definition(views: int, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
    first, more = draws(views=views)
    expected = slow(first, more)
    assert (expected > 1) == (views > 1)
    assert mean_rank_variance(first, more).item() == pytest.approx(expected)
    assert mean_rank_variance(first, 5 * more.flip(0)).item() == pytest.approx(expected)


def test_known_answers() -> None:
    x = torch.eye(4)
    assert mean_rank_variance(x, torch.stack([x, x, x])).item() == 0
    # Equal rows beat nobody: rank 4 in the second view, rank 1 in the first.
    assert mean_rank_variance(x, torch.stack([x, torch.ones(4, 4)])).item() == pytest.approx(1.5**2)
    assert mean_rank_variance(x.bfloat16(), torch.stack([x, -x]).bfloat16()).dtype == torch.float32
    assert not mean_rank_variance(x.requires_grad_(), x[None]).requires_grad


def test_memory_is_that_of_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**18)
    first, more = (x.float() for x in draws(4096, 2))
    with LargestTensor() as memory:
        mean_rank_variance(first, more)
    assert 2**17 < memory.numbers < 4096**2 // 8


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("first: .* got shape", (torch.ones(2, 3, 2), torch.ones(1, 3, 2))),
        (r"more: \(K, 3, 2\)", (torch.ones(3, 2), torch.ones(3, 2))),
        (r"more: \(K, 3, 2\)", (torch.ones(3, 2), torch.ones(2, 4, 2))),
        (r"more: \(K, 3, 2\)", (torch.ones(3, 2), torch.ones(0, 3, 2))),
        ("more: torch.float32", (torch.ones(3, 2), torch.ones(1, 3, 2).double())),
        ("more: finite", (torch.ones(3, 2), torch.full((1, 3, 2), math.nan))),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        mean_rank_variance(*arguments)
