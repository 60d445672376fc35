"""Overlapping crops, read off a series that counts its steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from nearfar.augment.series import CropPair, OverlappingCrops


def counting(num: int, steps: int) -> Tensor:
    return torch.arange(1, steps + 1, dtype=torch.float64)[:, None].expand(num, -1, 1)


def windows(view: Tensor, valid: Tensor) -> list[list[int]]:
    """Steps every crop shows, from 0."""
    return [
        [int(value) - 1 for value in row[inside]] for row, inside in zip(view[..., 0], valid, strict=True)
    ]


def crops(pair: CropPair, x: Tensor) -> list[tuple[list[int], list[int]]]:
    firsts = windows(pair.first.apply(x), pair.first_valid)
    return list(zip(firsts, windows(pair.second.apply(x), pair.second_valid), strict=True))


def test_two_windows_and_their_overlap(rng: torch.Generator) -> None:
    x = counting(300, 8)
    pair = OverlappingCrops()(x, rng)
    one, two, mask = pair.overlap(pair.first.apply(x), pair.second.apply(x))
    assert torch.equal(one, two)
    for row, (first, second) in enumerate(crops(pair, x)):
        assert first == list(range(first[0], first[-1] + 1))
        assert second == list(range(second[0], second[-1] + 1))
        assert first[0] <= second[0]
        assert first[-1] <= second[-1]
        common = [step for step in first if step in second]
        assert len(common) >= 2
        assert len(common) == pair.length[row] == mask[row].sum()
        shown = [int(value) - 1 for value in one[row, : len(common), 0]]
        assert shown == common
        assert (one[row, len(common) :] == 0).all()
    outside = ~pair.first_valid
    assert (pair.first.apply(x)[..., 0][outside] == 0).all()
    assert (pair.second.apply(x)[..., 0][~pair.second_valid] == 0).all()


def test_the_law_of_the_crops(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    x = counting(40_000, 4)
    found = Counter((a[0], b[0], a[-1] + 1, b[-1] + 1) for a, b in crops(OverlappingCrops()(x, rng), x))
    law = {}
    for size in (2, 3, 4):
        for left in range(5 - size):
            right = left + size
            for begin in range(left + 1):
                for end in range(right, 5):
                    law[begin, left, right, end] = 1 / 3 / (5 - size) / (left + 1) / (5 - right)
    assert fits(found, law)


def test_padding(rng: torch.Generator) -> None:
    valid = torch.zeros(200, 10, dtype=torch.bool)
    valid[:100, 3:9] = True
    valid[100:, :1] = True
    x = counting(200, 10).masked_fill(~valid[..., None], math.nan)
    pair = OverlappingCrops(min_length=3)(x, rng, valid=valid)
    for view, shown in ((pair.first, pair.first_valid), (pair.second, pair.second_valid)):
        out = view.apply(x)
        assert torch.equal(out.isnan(), x.isnan())
        assert not (shown & ~valid).any()
        inside = out[..., 0].masked_fill(~shown, 5)
        assert ((inside >= 1) & (inside <= 9)).all()
    one, two, mask = pair.overlap(pair.first.apply(x), pair.second.apply(x))
    assert torch.equal(one, two)
    assert (one[mask] >= 1).all()
    assert (mask.sum(1)[:100] >= 3).all()
    assert (mask.sum(1)[100:] == 1).all()


def test_rows_without_valid_steps_have_nothing_in_common(rng: torch.Generator) -> None:
    """Their padding, which may be NaN, was once counted as an overlap of one step."""
    valid = torch.tensor([[False] * 4, [True] * 4])
    x = counting(2, 4).masked_fill(~valid[..., None], math.nan)
    pair = OverlappingCrops()(x, rng, valid=valid)
    one, two, mask = pair.overlap(pair.first.apply(x), pair.second.apply(x))
    assert pair.length[0] == 0
    assert not mask[0].any()
    assert mask[1].any()
    assert not torch.cat([one, two]).isnan().any()


def test_what_is_missing_outside_a_crop_stays_outside(rng: torch.Generator) -> None:
    x = counting(300, 8).clone()
    pair = OverlappingCrops()(x, rng)
    shown = windows(pair.first.apply(x), pair.first_valid)
    missing = torch.tensor([[step > row[-1] for step in range(8)] for row in shown])
    assert missing.any()
    holed = x.masked_fill(missing[..., None], math.nan)
    assert torch.equal(pair.first.apply(holed), pair.first.apply(x))


def test_the_generator_decides(rng: torch.Generator) -> None:
    x = counting(50, 9)
    one, again, other = (OverlappingCrops()(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one.first.apply(x), again.first.apply(x))
    assert not torch.equal(one.first.apply(x), other.first.apply(x))
