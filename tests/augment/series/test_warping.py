"""Index maps: slice, warps, permutation, shift and reverse, read off a series that counts its steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import Permutation, Reverse, TimeShift, TimeWarp, WindowSlice, WindowWarp
from nearfar.augment.series.operation import SeriesOp


def places(op: SeriesOp, rng: torch.Generator, num: int, steps: int, **options: Tensor) -> Tensor:
    """Where every step comes from, shape ``(num, steps)``: the view of 0, 1, 2, ..."""
    x = torch.arange(steps, dtype=torch.float64)[:, None].expand(num, -1, 1)
    return op(x, rng, **options).apply(x)[..., 0]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_window_slice_is_linear(ratio: float, rng: torch.Generator) -> None:
    found = places(WindowSlice(ratio=ratio), rng, 4_000, 11)
    start = found[:, :1]
    torch.testing.assert_close(found, start + ratio * torch.arange(11.0, dtype=torch.float64))
    room = (1 - ratio) * 10
    assert start.min() >= 0
    assert start.max() <= room + 1e-12
    assert start.mean().item() == pytest.approx(room / 2, abs=5 * room / 12**0.5 / 4_000**0.5)
    assert start.var().item() == pytest.approx(room**2 / 12, rel=0.06)


@pytest.mark.parametrize("speed", [0.5, 2.0, 3.0])
def test_window_warp_plays_a_window_at_another_speed(speed: float, rng: torch.Generator) -> None:
    steps, ratio = 201, 0.3
    found = places(WindowWarp(ratio=ratio, speeds=(speed,)), rng, 300, steps)
    torch.testing.assert_close(found[:, 0], torch.zeros(300, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        found[:, -1], torch.full((300,), 200.0, dtype=torch.float64), rtol=0, atol=1e-10
    )
    # Time on the warped axis is 1 - r + r / v as long; a step of the result is that much of it.
    outside = 1 - ratio + ratio / speed
    pace = found.diff(dim=1)
    is_outside, is_inside = (pace - outside).abs() < 1e-9, (pace - outside * speed).abs() < 1e-9
    assert (~is_outside & ~is_inside).sum(1).max() <= 2  # the steps in which the speed changes
    assert (is_inside.sum(1).double() * outside * speed - ratio * 200).abs().max() < 2 * outside * speed
    assert (is_inside[:, 1:] & ~is_inside[:, :-1]).sum(1).max() <= 1  # in one piece
    begin = torch.where(is_inside, found[:, :-1], math.inf).amin(1)
    assert begin.mean().item() == pytest.approx((1 - ratio) * 100, abs=5 * 140 / 12**0.5 / 300**0.5 + speed)


def test_window_warp_chooses_speeds_uniformly(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    pace = places(WindowWarp(), rng, 4_000, 101).diff(dim=1)
    fast = ((pace - 0.85 * 2).abs() < 1e-9).any(1)
    slow = ((pace - 1.3 * 0.5).abs() < 1e-9).any(1)
    assert (fast ^ slow).all()
    assert fits(Counter(fast.tolist()), {True: 0.5, False: 0.5})


def test_time_warp_runs_forwards_inside_the_series(rng: torch.Generator) -> None:
    found = places(TimeWarp(), rng, 500, 512)
    assert (found.diff(dim=1) > 0).all()
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, -1], torch.full((500,), 511.0, dtype=torch.float64))
    assert found.max() <= 511
    assert (found - torch.arange(512)).abs().max() > 5


def test_time_warp_speeds(rng: torch.Generator) -> None:
    # Five pieces of eight steps: in each the map is linear, and speeds differ by the ratio at most.
    found = places(TimeWarp(num_changes=4, max_ratio=3.0), rng, 20_000, 41)
    pace = found.diff(dim=1).unflatten(1, (5, 8))
    torch.testing.assert_close(pace, pace[..., :1].expand_as(pace))
    logs = pace[..., 0].log()
    spread = logs.amax(1) - logs.amin(1)
    assert spread.max() <= math.log(3) + 1e-6
    assert spread.max() > 0.95 * math.log(3)
    # Two uniform numbers on an interval of length L are L / 3 apart on average, five span 4 L / 6.
    assert (logs[:, 0] - logs[:, 3]).abs().mean().item() == pytest.approx(math.log(3) / 3, rel=0.03)
    assert spread.mean().item() == pytest.approx(math.log(3) * 4 / 6, rel=0.02)
    assert torch.allclose(places(TimeWarp(num_changes=0), rng, 1, 9), torch.arange(9.0, dtype=torch.float64))


def test_permutation_law_for_three_steps(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    found = places(Permutation(max_segments=3), rng, 40_000, 3).long()
    # Half the time one cut (2 places, 2 orders), half the time two cuts (6 orders).
    law = {(0, 1, 2): 1 / 4 + 1 / 12, (1, 2, 0): 1 / 8 + 1 / 12, (2, 0, 1): 1 / 8 + 1 / 12}
    law |= dict.fromkeys([(0, 2, 1), (1, 0, 2), (2, 1, 0)], 1 / 12)
    assert fits(Counter(map(tuple, found.tolist())), law)


def test_permutation_moves_whole_segments(rng: torch.Generator) -> None:
    found = places(Permutation(), rng, 2_000, 30)
    assert (found.sort(1).values == torch.arange(30)).all()
    breaks = (found.diff(dim=1) != 1).sum(1)
    assert breaks.max() == 4
    assert Permutation()(torch.zeros(2, 5, 1), rng).index.dtype == torch.int64  # type: ignore[union-attr]


def test_permutation_cuts_are_uniform(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    found = places(Permutation(max_segments=2), rng, 20_000, 6).long()
    cut = found[:, 0][found[:, 0] > 0]  # swapped: begins with the second segment
    assert fits(Counter(cut.tolist()), dict.fromkeys(range(1, 6), 1 / 5))
    assert len(cut) / 20_000 == pytest.approx(0.5, abs=0.02)


def test_permutation_inside_a_window(rng: torch.Generator) -> None:
    valid = ((torch.arange(9) >= 2) & (torch.arange(9) < 6)).expand(500, -1)
    found = places(Permutation(), rng, 500, 9, valid=valid)
    assert (found[:, 2:6].sort(1).values == torch.arange(2, 6)).all()
    assert len(set(map(tuple, found.tolist()))) == math.factorial(4)


def test_time_shift_is_a_uniform_roll(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    found = places(TimeShift(ratio=0.25), rng, 20_000, 10).long()
    first = found[:, :1]
    assert torch.equal(found, (first + torch.arange(10)) % 10)
    assert fits(Counter(first.flatten().tolist()), dict.fromkeys([8, 9, 0, 1, 2], 1 / 5))
    valid = (torch.arange(10) < 4).expand(500, -1)
    inside = places(TimeShift(ratio=0.5), rng, 500, 10, valid=valid).long()
    assert torch.equal(inside[:, :4], (inside[:, :1] + torch.arange(4)) % 4)
    assert torch.equal(inside[:, 4:], torch.arange(4, 10).expand(500, -1))


def test_reverse(rng: torch.Generator) -> None:
    assert places(Reverse(), rng, 1, 4).tolist() == [[3, 2, 1, 0]]
    valid = torch.tensor([[False, True, True, True, False]])
    assert places(Reverse(), rng, 1, 5, valid=valid).tolist() == [[0, 3, 2, 1, 4]]
