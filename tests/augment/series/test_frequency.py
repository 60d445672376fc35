"""Spectral operations against the FFT by hand, pure tones, and shares of frequencies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar.augment.series import (
    BandStop,
    FrequencyJitter,
    FrequencyMask,
    HighPass,
    LowPass,
    PhaseShift,
    SeriesOp,
)

OPS = [BandStop(ratio=0.3), FrequencyJitter(), FrequencyMask(ratio=0.3), HighPass(), LowPass(), PhaseShift()]


def tone(bin_: int, steps: int, phase: float = 0.0) -> Tensor:
    """A cosine with a whole number of periods, shape ``(1, steps, 1)``."""
    time = torch.arange(steps, dtype=torch.float64)
    return torch.cos(2 * math.pi * bin_ * time / steps + phase)[None, :, None]


@pytest.mark.parametrize("op", OPS, ids=lambda op: type(op).__name__)
@pytest.mark.parametrize("steps", [15, 16])
def test_equals_the_transform_by_hand(op: SeriesOp, steps: int, rng: torch.Generator) -> None:
    x = torch.randn(5, steps, 2, generator=rng, dtype=torch.float64)
    view = op(x, rng)
    assert view.frequency_gain is not None
    expected = torch.fft.irfft(view.frequency_gain * torch.fft.rfft(x, dim=1), n=steps, dim=1)
    torch.testing.assert_close(view.apply(x), expected, rtol=0, atol=1e-12)
    valid = torch.arange(steps).expand(5, -1) < 11
    view = op(x, rng, valid=valid)
    heard = torch.fft.rfft(x * valid[..., None], dim=1)
    filtered = torch.fft.irfft(view.frequency_gain * heard, n=steps, dim=1)
    expected = torch.where(valid[..., None], filtered, x)
    torch.testing.assert_close(view.apply(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bin_", range(9))
def test_pure_tones_pass_or_not(bin_: int, rng: torch.Generator) -> None:
    x = tone(bin_, 16)
    for op, passes in ((LowPass(cutoff=0.5), bin_ <= 4), (HighPass(cutoff=0.25), bin_ >= 2)):
        torch.testing.assert_close(op(x, rng).apply(x), x * passes, rtol=0, atol=1e-12)


def test_cutoffs_are_per_sample(rng: torch.Generator) -> None:
    x = tone(3, 16).expand(2, -1, -1)
    out = LowPass(cutoff=torch.tensor([0.3, 0.4]))(x, rng).apply(x)
    torch.testing.assert_close(out, x * torch.tensor([0.0, 1.0])[:, None, None], rtol=0, atol=1e-12)


def test_phase_shift_turns_a_tone(rng: torch.Generator) -> None:
    x = tone(3, 17).expand(3_000, -1, -1)
    out = PhaseShift(max_angle=1.0)(x, rng).apply(x)
    spectrum = torch.fft.rfft(out, dim=1)[:, 3, 0]
    angle = spectrum.angle()
    torch.testing.assert_close(out[:1], tone(3, 17, angle[0].item()), rtol=0, atol=1e-12)
    assert angle.abs().max() <= 1
    assert angle.mean().item() == pytest.approx(0, abs=5 / 3**0.5 / 3_000**0.5)
    assert angle.var().item() == pytest.approx(1 / 3, rel=0.06)


def test_phase_shift_keeps_energy_mean_and_nyquist(rng: torch.Generator) -> None:
    x = torch.randn(50, 16, 2, generator=rng, dtype=torch.float64)
    out = PhaseShift()(x, rng).apply(x)
    torch.testing.assert_close(out.square().sum(1), x.square().sum(1))
    for kept in (0, 8):
        torch.testing.assert_close(torch.fft.rfft(out, dim=1)[:, kept], torch.fft.rfft(x, dim=1)[:, kept])


def test_frequency_mask_share(rng: torch.Generator) -> None:
    view = FrequencyMask(ratio=0.3)(torch.zeros(2_000, 99, 1), rng)
    lost = (view.frequency_gain == 0).double()  # type: ignore[union-attr]
    assert lost.shape == (2_000, 50, 1)
    assert lost.mean((0, 2)).tolist() == pytest.approx([0.3] * 50, abs=0.055)
    assert lost.mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 1e5) ** 0.5)


def test_band_stop_is_one_band_uniformly_placed(rng: torch.Generator, fits: Callable[..., bool]) -> None:
    view = BandStop(ratio=0.4)(torch.zeros(20_000, 11, 1), rng)
    stopped = view.frequency_gain[..., 0] == 0  # type: ignore[index]
    assert (stopped.sum(1) == 2).all()
    start = stopped.int().argmax(1)
    assert stopped.gather(1, start[:, None] + 1).all()
    assert fits(Counter(start.tolist()), dict.fromkeys(range(5), 1 / 5))


def test_frequency_jitter_moments(rng: torch.Generator) -> None:
    gain = FrequencyJitter(std=0.2)(torch.zeros(500, 99, 4), rng).frequency_gain
    assert gain is not None
    assert gain.shape == (500, 50, 4)
    assert gain.mean().item() == pytest.approx(1, abs=5 * 0.2 / 1e5**0.5)
    assert gain.std().item() == pytest.approx(0.2, rel=5 / 2e5**0.5)
