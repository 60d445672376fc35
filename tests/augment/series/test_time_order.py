"""Series in a wrong order against loops over lists, with gaps and padding."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.augment.series.time_order import reversed_series, swapped_segments


def numbered(batch: int, steps: int, features: int = 2) -> Tensor:
    """Series that say which step they are at."""
    step = torch.arange(steps, dtype=torch.float64)[None, :, None]
    return step + 100 * torch.arange(features) + 1000 * torch.arange(batch)[:, None, None]


def steps_of(out: Tensor, x: Tensor) -> list[list[int]]:
    """Which step of the input is where; every step must have moved whole."""
    found = []
    for row, old in zip(out, x, strict=True):
        same = (row[:, None] == old[None]).all(2)
        assert (same.sum(1) == 1).all()
        found.append(same.int().argmax(1).tolist())
    return found


def parts_of(length: int, segments: int) -> list[list[int]]:
    return [part.tolist() for part in torch.arange(length).tensor_split(segments)]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_backwards(steps: int) -> None:
    x = numbered(3, steps)
    assert torch.equal(reversed_series(x), x.flip(1))
    assert torch.equal(reversed_series(reversed_series(x)), x)


@pytest.mark.parametrize(("steps", "segments"), [(2, 2), (7, 2), (10, 3), (11, 4), (5, 5)])
def test_exactly_two_segments_change_places(steps: int, segments: int, rng: torch.Generator) -> None:
    x = numbered(400, steps)
    orders = Counter(tuple(order) for order in steps_of(swapped_segments(x, rng, segments=segments), x))
    expected = set()
    for i in range(segments):
        for j in range(i):
            parts = parts_of(steps, segments)
            parts[i], parts[j] = parts[j], parts[i]
            expected.add(tuple(step for part in parts for step in part))
    assert set(orders) == expected  # every pair comes, the old order never does
    assert tuple(range(steps)) not in orders
    share = 400 / len(expected)
    assert all(0.4 * share < count < 1.8 * share + 1 for count in orders.values())


def test_padding_stays_and_rows_are_cut_by_their_own_length(rng: torch.Generator) -> None:
    x = numbered(4, 8)
    valid = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 0], [1] * 8, [0, 0, 0, 1, 0, 0, 0, 0], [0] * 8]).bool()
    x[~valid] = math.nan
    out = swapped_segments(x, rng, valid=valid)
    back = reversed_series(x, valid)
    for each in (out, back):
        assert torch.equal(each.isnan(), x.isnan())
    assert out[0, 2:7, 0].tolist() == [5, 6, 2, 3, 4]
    assert back[0, 2:7, 0].tolist() == [6, 5, 4, 3, 2]
    assert out[1, :, 0].tolist() == [1004, 1005, 1006, 1007, 1000, 1001, 1002, 1003]
    assert out[2, 3, 0] == back[2, 3, 0] == 2003


def test_rows_shorter_than_segments_are_cut_at_every_step(rng: torch.Generator) -> None:
    x, valid = numbered(200, 6), torch.zeros(200, 6, dtype=torch.bool)
    valid[:, 1:4] = True
    out = swapped_segments(x, rng, segments=5, valid=valid)
    assert torch.equal(out[~valid], x[~valid])
    orders = {tuple(order[1:4]) for order in steps_of(out, x)}
    assert orders == {(2, 1, 3), (3, 2, 1), (1, 3, 2)}


def test_a_missing_value_goes_with_its_step(rng: torch.Generator) -> None:
    x = numbered(2, 6)
    x[0, 1, 0] = math.nan
    out = swapped_segments(x, rng)
    assert out[0, 4, 0].isnan()
    assert out[0, 4, 1] == 101
    assert out.isnan().sum() == 1
    assert reversed_series(x).isnan().nonzero().tolist() == [[0, 4, 0]]


def test_draws_are_those_of_the_generator() -> None:
    x = numbered(30, 12)
    first, again, other = (
        swapped_segments(x, torch.Generator().manual_seed(seed), segments=6) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradients_go_back_to_where_steps_came_from(rng: torch.Generator) -> None:
    x = numbered(2, 5).requires_grad_()
    weight = torch.rand(2, 5, 2, generator=rng, dtype=torch.float64)
    (grad,) = torch.autograd.grad((swapped_segments(x, rng) * weight).sum(), x)
    assert torch.equal(grad, weight[:, [2, 3, 4, 0, 1]])


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("x: float32 or float64", {"x": torch.ones(2, 3)}),
        ("segments: 2 to the 4 steps", {"segments": 1}),
        ("segments: 2 to the 4 steps", {"segments": 5}),
        (r"valid: bool of shape \(2, 4\)", {"valid": torch.ones(2, 3, dtype=torch.bool)}),
        ("valid: one run", {"valid": torch.tensor([[True, False, True, True]] * 2)}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any], rng: torch.Generator) -> None:
    usual: dict[str, Any] = {"x": torch.ones(2, 4, 1)}
    with pytest.raises(ValueError, match=message):
        swapped_segments(generator=rng, **usual | options)
    if "segments" not in options:
        with pytest.raises(ValueError, match=message):
            reversed_series(**usual | options)
