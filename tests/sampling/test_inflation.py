"""Generated rows among real ones: frequencies against weights, limits, and strengths that follow."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nearfar.sampling.inflation import InflationSampler, coupled_strength, generated_share


@pytest.mark.parametrize("m", [0.0, 0.5, 1.0, 10.0, math.inf])
def test_every_row_comes_as_often_as_its_weight_says(m: float) -> None:
    real, generated, count = 3, 8, 300_000
    rows = InflationSampler(real, generated, m).rows(0, count)
    share = rows.bincount(minlength=real + generated).double() / count
    weight = [1.0] * real + [0.0] * generated if math.isinf(m) else [m] * real + [1.0] * generated
    expected = torch.tensor(weight, dtype=torch.float64) / sum(weight)
    assert (share - expected).abs().max() < 0.004
    assert not share[expected == 0].any()
    assert len(share) == real + generated
    assert generated_share(real, generated, m) == pytest.approx(expected[real:].sum().item())


def test_as_if_real_rows_were_there_m_times() -> None:
    # The published way: a list with copies, from which rows are drawn alike.
    rng = torch.Generator().manual_seed(0)
    copies = torch.cat([torch.arange(2).repeat(10), torch.arange(2, 7)])
    published = copies[torch.randint(len(copies), (200_000,), generator=rng)].bincount(minlength=7)
    rows = InflationSampler(2, 5).rows(1, 200_000).bincount(minlength=7)
    assert (published - rows).abs().max() < 200_000 * 0.006


def test_rows_are_those_of_seed_and_step() -> None:
    def rows(seed: int, step: int) -> list[int]:
        return InflationSampler(50, 500, seed=seed).rows(step, 40).tolist()

    assert rows(0, 3) == rows(0, 3)
    assert rows(0, 3) != rows(0, 4)
    assert rows(0, 3) != rows(1, 3)
    assert InflationSampler(5, 5).rows(0, 0).shape == (0,)


def test_without_generated_rows_only_real_ones_come() -> None:
    assert set(InflationSampler(4, 0).rows(0, 200).tolist()) == {0, 1, 2, 3}


def test_strength_falls_with_the_share_of_generated_rows() -> None:
    assert coupled_strength(50_000, 1_000_000) == pytest.approx(0.5)
    assert coupled_strength(100, 0) == 1
    assert coupled_strength(100, 100, math.inf) == 1
    assert coupled_strength(100, 100, 0.0) == 0.25
    assert coupled_strength(1, 1, 1.0, strongest=0.8, weakest=0.4) == pytest.approx(0.6)
    by_m = [coupled_strength(100, 1000, m) for m in (1.0, 3.0, 10.0, 100.0)]
    by_size = [coupled_strength(100, n) for n in (10_000, 1000, 100, 10)]
    for values in (by_m, by_size):
        assert values == sorted(set(values))


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("num_real: at least 1", (0, 5)),
        ("num_generated: 0 or more", (5, -1)),
        ("m: a number of at least 0", (5, 5, -1.0)),
        ("m: a number of at least 0", (5, 5, math.nan)),
        ("m: above 0", (5, 0, 0.0)),
    ],
)
def test_bad_numbers_are_named(message: str, arguments: tuple[Any, ...]) -> None:
    for make in (InflationSampler, generated_share, coupled_strength):
        with pytest.raises(ValueError, match=message):
            make(*arguments)


def test_bad_strengths_and_counts_are_named() -> None:
    with pytest.raises(ValueError, match="weakest: at most strongest=0.2"):
        coupled_strength(5, 5, strongest=0.2)
    with pytest.raises(ValueError, match="weakest: a finite number"):
        coupled_strength(5, 5, weakest=-0.1)
    with pytest.raises(ValueError, match="count: 0 or more"):
        InflationSampler(5, 5).rows(0, -1)
