"""Jitter, scaling, flip and magnitude warp: moments, constancy, and SciPy's splines."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nearfar.augment.series import Flip, Jitter, MagnitudeWarp, Scaling


def test_jitter_is_normal_noise(rng: torch.Generator) -> None:
    x = torch.full((200, 500, 4), 2.0)
    noise = Jitter()(x, rng).apply(x) - x
    num = noise.numel()
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.3 / num**0.5)
    assert noise.std().item() == pytest.approx(0.3, rel=5 / (2 * num) ** 0.5)
    assert (noise.abs() > 0.6).double().mean().item() == pytest.approx(math.erfc(2**0.5), abs=2e-3)
    pairs = noise[:, 1:] * noise[:, :-1]  # steps are independent
    assert pairs.mean().item() == pytest.approx(0, abs=5 * 0.09 / num**0.5)
    strengths = torch.tensor([0.1, 2.0]).repeat_interleave(100)
    noise = Jitter(std=strengths)(x, rng).apply(x) - x
    assert noise[:100].std().item() == pytest.approx(0.1, rel=0.01)
    assert noise[100:].std().item() == pytest.approx(2.0, rel=0.01)


def test_scaling_is_one_factor_a_feature(rng: torch.Generator) -> None:
    x = torch.ones(20_000, 3, 2, dtype=torch.float64)
    out = Scaling()(x, rng).apply(x)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert out[:, 0].mean().item() == pytest.approx(1, abs=5 * 0.5 / 40_000**0.5)
    assert out[:, 0].std().item() == pytest.approx(0.5, rel=0.02)
    assert torch.corrcoef(out[:, 0].T)[0, 1].item() == pytest.approx(0, abs=0.04)


def test_flip(rng: torch.Generator) -> None:
    x = torch.randn(5, 4, 2, generator=rng)
    assert torch.equal(Flip()(x, rng).apply(x), -x)


def test_strength_can_be_learned(rng: torch.Generator) -> None:
    x = torch.ones(4, 6, 2, dtype=torch.float64)
    std = torch.full((4,), 0.3, dtype=torch.float64, requires_grad=True)

    def apply(std: torch.Tensor) -> torch.Tensor:
        return Jitter(std=std)(x, torch.Generator().manual_seed(0)).apply(x)

    assert torch.autograd.gradcheck(apply, (std,))


@pytest.mark.parametrize("num_knots", [2, 3, 4, 7])
@pytest.mark.parametrize("spline", ["cubic", "linear"])
@pytest.mark.parametrize("padded", [False, True])
def test_magnitude_warp_is_the_spline(
    num_knots: int, spline: str, padded: bool, rng: torch.Generator
) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    gap, first = 4, 3 if padded else 0
    length = gap * (num_knots - 1) + 1
    x = torch.ones(3, length + 2 * first, 2, dtype=torch.float64)
    steps = torch.arange(x.shape[1])
    valid = ((steps >= first) & (steps < first + length)).expand(3, -1) if padded else None
    op = MagnitudeWarp(std=1.0, num_knots=num_knots, spline=spline)  # type: ignore[arg-type]
    curve = op(x, rng, valid=valid).apply(x)[:, first : first + length].numpy()
    at = np.arange(0, length, gap)
    for b in range(3):
        for f in range(2):
            knots = curve[b, at, f]
            if spline == "linear":
                expected = np.interp(np.arange(length), at, knots)
            else:
                expected = interpolate.CubicSpline(at, knots, bc_type="natural")(np.arange(length))
            np.testing.assert_allclose(curve[b, :, f], expected, rtol=0, atol=1e-12)


def test_magnitude_warp_knots_are_normal(rng: torch.Generator) -> None:
    x = torch.ones(5_000, 7, 2)
    knots = MagnitudeWarp(std=0.2)(x, rng).apply(x)[:, ::2]
    assert knots.mean().item() == pytest.approx(1, abs=5 * 0.2 / knots.numel() ** 0.5)
    assert knots.std().item() == pytest.approx(0.2, rel=0.02)
    flat = knots.flatten(1)
    assert (torch.corrcoef(flat.T) - torch.eye(8)).abs().max().item() < 0.08  # knots, features: independent
