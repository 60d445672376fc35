"""Mixup: partners, shares, and padding of either side."""

from __future__ import annotations

import math

import pytest
import torch

from nearfar.augment.series import Mixup


def test_a_convex_combination_with_one_other_sample(rng: torch.Generator) -> None:
    x = torch.randn(40, 6, 2, generator=rng, dtype=torch.float64)
    view = Mixup(alpha=2.0)(x, rng)
    share, out = view.gain, view.apply(x)
    assert share is not None
    assert share.shape == (40, 1, 1)
    assert ((share >= 0.5) & (share <= 1)).all()
    rest = (out - share * x) / (1 - share)
    distance = (rest[:, None] - x[None]).abs().amax((2, 3))
    assert distance.amin(1).max() < 1e-9
    partner = distance.argmin(1)
    assert sorted(partner.tolist()) == list(range(40))
    walk, seen = 0, set()
    while walk not in seen:  # one circle through everybody
        seen.add(walk)
        walk = int(partner[walk])
    assert len(seen) == 40


@pytest.mark.parametrize(("alpha", "mean"), [(1.0, 3 / 4), (2.0, 11 / 16)])
def test_the_larger_share_stays(alpha: float, mean: float, rng: torch.Generator) -> None:
    # E max(s, 1 - s): of the uniform 3/4; of 6 s (1 - s), 2 * integral of 6 s^2 (1 - s) over [1/2, 1] = 11/16.
    share = Mixup(alpha=alpha)(torch.zeros(50_000, 1, 1), rng).gain
    assert share is not None
    assert share.mean().item() == pytest.approx(mean, abs=0.005)


def test_padding_of_either_side_is_left_alone(rng: torch.Generator) -> None:
    x = torch.tensor([[1.0, 1.0, math.nan], [math.nan, 5.0, 5.0]])[..., None]
    valid = ~x[..., 0].isnan()
    out = Mixup(alpha=1000.0)(x, rng, valid=valid).apply(x)[..., 0]
    assert out[0, 0] == 1
    assert out[1, 2] == 5
    assert 1.5 < out[0, 1] < 3.1
    assert 2.9 < out[1, 1] < 4.5
    assert out[0, 1] + out[1, 1] != 6  # shares are drawn for each
    assert out[0, 2].isnan()
    assert out[1, 0].isnan()


def test_alone_nothing_changes(rng: torch.Generator) -> None:
    x = torch.randn(1, 5, 2, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(Mixup()(x, rng).apply(x), x)
