"""Cutout, subsequence, time mask and channel dropout: what is left, how much, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import ChannelDropout, Cutout, Subsequence, TimeMask


def runs(kept: Tensor) -> Tensor:
    """Number of runs of true values in every row of ``(B, T)``."""
    return (kept[:, 1:] & ~kept[:, :-1]).sum(1) + kept[:, 0]


def test_cutout_is_one_window_uniformly_placed(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    x = torch.ones(30_000, 10, 2)
    out = Cutout(ratio=0.35)(x, rng).apply(x)
    assert torch.equal(out[..., 0], out[..., 1])
    removed = out[..., 0] == 0
    assert (removed.sum(1) == 3).all()
    assert (runs(removed) == 1).all()
    assert fits(Counter(removed.int().argmax(1).tolist()), dict.fromkeys(range(8), 1 / 8))


@pytest.mark.parametrize(
    ("ratio", "steps", "removed"), [(0.53, 100, 53), (0.1, 10, 1), (0.0, 10, 0), (1.0, 7, 7)]
)
def test_cutout_counts(ratio: float, steps: int, removed: int, rng: torch.Generator) -> None:
    x = torch.ones(4, steps, 1)
    assert (Cutout(ratio=ratio)(x, rng).apply(x).sum((1, 2)) == steps - removed).all()


def test_cutout_counts_are_the_same_for_strengths_in_double_precision(rng: torch.Generator) -> None:
    ratio = torch.tensor([0.29, 0.57, 0.53, 0.535], dtype=torch.float64)
    out = Cutout(ratio=ratio)(torch.ones(4, 100, 1), rng).apply(torch.ones(4, 100, 1))
    assert out.sum((1, 2)).tolist() == [71, 43, 47, 47]


def test_cutout_counts_valid_steps(rng: torch.Generator) -> None:
    x = torch.ones(50, 20, 1)
    valid = torch.arange(20).expand(50, -1) >= 10
    out = Cutout(ratio=0.5)(x, rng, valid=valid).apply(x)
    assert (out[:, :10] == 1).all()
    assert (out[:, 10:].sum((1, 2)) == 5).all()


def test_subsequence_lengths_and_places_are_uniform(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    x = torch.ones(40_000, 6, 1)
    kept = Subsequence()(x, rng).apply(x)[..., 0] == 1
    assert (runs(kept) == 1).all()
    found = Counter(zip(kept.sum(1).tolist(), kept.int().argmax(1).tolist(), strict=True))
    law = {(length, start): 1 / 5 / (7 - length) for length in range(2, 7) for start in range(7 - length)}
    assert fits(found, law)


def test_time_mask_is_bernoulli(rng: torch.Generator) -> None:
    x = torch.ones(2_000, 50, 3)
    out = TimeMask(ratio=0.3)(x, rng).apply(x)
    assert torch.equal(out, out[..., :1].expand_as(out))
    removed = 1 - out[..., 0].double()
    assert removed.mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)
    both = (removed[:, 1:] * removed[:, :-1]).mean().item()
    assert both == pytest.approx(0.09, abs=0.006)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_channel_dropout_keeps_one(ratio: float, rng: torch.Generator, fits: Callable[..., bool]) -> None:
    x = torch.ones(40_000, 2, 3)
    kept = ChannelDropout(ratio=ratio)(x, rng).apply(x)
    assert torch.equal(kept[:, 0], kept[:, 1])
    left = kept[:, 0].sum(1).long()
    assert (left >= 1).all()
    lost = (1 - kept[:, 0].double()).mean(0)
    assert lost.tolist() == pytest.approx([ratio - ratio**3 / 3] * 3, abs=0.013)
    if ratio == 0.5:
        assert fits(Counter(left.tolist()), {1: 3 / 8 + 1 / 8, 2: 3 / 8, 3: 1 / 8})


def test_a_univariate_series_keeps_its_channel(rng: torch.Generator) -> None:
    x = torch.ones(100, 2, 1)
    assert torch.equal(ChannelDropout(ratio=1.0)(x, rng).apply(x), x)
