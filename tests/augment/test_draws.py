"""Draws: their laws, and that dtype does not change them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from nearfar.augment.draws import beta, integers, normal, uniform


def test_precision_does_not_change_the_draw() -> None:
    for draw in (uniform, normal):
        single = draw((5, 3), torch.zeros(1), torch.Generator().manual_seed(1))
        double = draw((5, 3), torch.zeros(1, dtype=torch.float64), torch.Generator().manual_seed(1))
        assert double.dtype == torch.float64
        assert torch.equal(single.double(), double)
    assert uniform((2,), torch.zeros(1, dtype=torch.int64), torch.Generator()).dtype == torch.float32


def test_integers_are_uniform(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    drawn = integers(torch.full((30_000,), 7), rng)
    assert fits(Counter(drawn.tolist()), dict.fromkeys(range(7), 1 / 7))


@pytest.mark.parametrize("a", [0.05, 0.2, 1.0, 5.0])
def test_beta_moments(a: float, rng: torch.Generator) -> None:
    drawn = beta(a, torch.zeros(200_000, 2, dtype=torch.float64), rng)
    assert drawn.dtype == torch.float64
    assert drawn.isfinite().all()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.005)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * a + 1)), rel=0.02)


def test_beta_of_each_sample(rng: torch.Generator) -> None:
    a = torch.tensor([0.2, 5.0]).repeat_interleave(50_000)
    drawn = beta(a, torch.zeros(100_000), rng)
    for half, alpha in zip(drawn.chunk(2), (0.2, 5.0), strict=True):
        assert half.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
