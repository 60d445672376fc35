"""Trend heads: one kernel for eight convolutions, the frequency domain, causal means; each against loops over steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.runtime import generator
from nearfar.timeseries.encoder.collapsed import SCALES, TAPS, collapse, convolution
from nearfar.timeseries.encoder.fourier import (
    LONGEST,
    fourier_convolution,
    kernel_spectrum,
    transform_size,
)
from nearfar.timeseries.encoder.light_trend import FixedLightTrend, LightTrendHead
from nearfar.timeseries.encoder.trend import MODES, FixedTrend, TrendHead, TrendMode


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "draw"), dtype=torch.float64)


def head(dim: int = 5, mode: TrendMode = "auto") -> TrendHead:
    torch.manual_seed(1)
    return TrendHead(dim, mode).double()


def trend_by_loops(head: TrendHead, u: Tensor) -> Tensor:
    """Section 2.2 step by step: the mean over k of b_k + sum_j W_k[j] u_{t-j}."""
    out = torch.zeros_like(u)
    for conv, size in zip(head.convs, SCALES, strict=True):
        weight, bias = conv.weight.detach(), conv.bias.detach()  # type: ignore[operator]
        for t in range(u.shape[1]):
            out[:, t] += bias
            for j in range(min(size, t + 1)):
                out[:, t] += u[:, t - j] @ weight[..., size - 1 - j].T
    return out / len(SCALES)


@pytest.mark.parametrize("steps", [1, 7, 140])
def test_trend_is_the_mean_of_eight_convolutions(steps: int) -> None:
    trend, u = head(), draw(2, steps, 5)
    expected = trend_by_loops(trend, u)
    for mode in MODES:
        trend.mode = mode  # type: ignore[assignment]
        torch.testing.assert_close(trend(u), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [LONGEST - TAPS + 1, LONGEST - TAPS + 2, 1500])
def test_long_series_are_cut_into_pieces(steps: int) -> None:
    trend, u = head(), draw(2, steps, 5)
    expected = trend.convs[0](u.mT)
    for conv, size in zip(trend.convs[1:], SCALES[1:], strict=True):
        expected = expected + conv(torch.nn.functional.pad(u.mT, (size - 1, 0)))
    trend.mode = "fourier"
    torch.testing.assert_close(trend(u), expected.mT / 8, rtol=1e-10, atol=1e-12)
    padded = torch.nn.functional.pad(u, (0, 0, 127, 0))
    torch.testing.assert_close(FixedTrend(trend).continued(padded), expected.mT / 8, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("mode", "bound"), [("fourier", 1e-6), ("collapsed", 1e-5), ("direct", 1e-5)])
def test_single_precision(mode: TrendMode, bound: float) -> None:
    """Of the largest number; the frequency domain rounds least, sums over all taps and channels most."""
    torch.manual_seed(0)
    trend, exact, u = TrendHead(32, mode), head(32, "direct"), draw(2, 300, 32).float()
    exact.load_state_dict(trend.state_dict())
    expected = exact(u.double())
    assert (trend(u) - expected).abs().max() < bound * expected.abs().max()


def test_the_kernel_in_single_precision() -> None:
    trend = TrendHead(16)
    expected = torch.zeros(16, 16, TAPS, dtype=torch.float64)
    for conv, size in zip(trend.convs, SCALES, strict=True):
        for j in range(size):
            expected[..., TAPS - 1 - j] += conv.weight.detach()[..., size - 1 - j].double() / 8  # type: ignore[operator]
    assert (trend.kernel() - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("steps", [20, 900])
def test_gradients_are_those_of_eight_convolutions(steps: int) -> None:
    found = {}
    for mode in ("direct", "collapsed", "fourier"):
        trend, u = head(mode=mode), draw(2, steps, 5).requires_grad_()
        (trend(u) * draw(2, steps, 5).cos()).sum().backward()
        found[mode] = [u.grad, *(parameter.grad for parameter in trend.parameters())]
    for mode in ("collapsed", "fourier"):
        for ours, theirs in zip(found[mode], found["direct"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_gradcheck() -> None:
    u, kernel = draw(2, 9, 2).requires_grad_(), draw(3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(fourier_convolution, (u, kernel))
    weights = [draw(2, 3, size).requires_grad_() for size in (1, 2, 4)]
    assert torch.autograd.gradcheck(lambda *given: collapse(given), weights)


def test_a_convolution_of_odd_and_even_lengths() -> None:
    for total in range(4, 24):
        u, kernel = draw(2, total, 3), draw(2, 3, 4)
        torch.testing.assert_close(fourier_convolution(u, kernel), convolution(u, kernel))
        given = kernel_spectrum(kernel, transform_size(total))
        torch.testing.assert_close(fourier_convolution(u, kernel, given), convolution(u, kernel))


def test_the_spectrum_is_that_of_the_padded_kernel() -> None:
    kernel = draw(2, 3, 4)
    expected = torch.fft.rfft(kernel.flip(2), 10, dim=2).permute(2, 0, 1)
    found = kernel_spectrum(kernel, 10)
    torch.testing.assert_close(torch.complex(found[:, :2], found[:, 2:]), expected)


def test_the_parameters_stay_eight_convolutions() -> None:
    sizes = [parameter.shape[2] for parameter in TrendHead(4).parameters() if parameter.dim() == 3]
    assert tuple(sizes) == SCALES
    assert sum(parameter.numel() for parameter in TrendHead(320).parameters()) == 26_114_560


def test_other_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="mode: one of auto, direct.* got 'fft'"):
        TrendHead(4, "fft")  # type: ignore[arg-type]


def light(dim: int = 4) -> LightTrendHead:
    torch.manual_seed(2)
    return LightTrendHead(dim).double()


@pytest.mark.parametrize("steps", [1, 5, 64, 65, 200])
def test_light_trend_by_loops(steps: int) -> None:
    trend, u = light(), draw(2, steps, 4)
    weights = trend.scales.weight.detach()[:, 0]  # (D, 8)
    means = torch.zeros_like(u)
    for place, size in enumerate(SCALES):
        for t in range(steps):
            means[:, t] += weights[:, place] * u[:, max(0, t - size + 1) : t + 1].sum(1) / size
    expected = means @ trend.mix.weight.T + trend.mix.bias
    torch.testing.assert_close(trend(u), expected, rtol=1e-10, atol=1e-12)


def test_light_trend_in_single_precision_far_from_zero() -> None:
    torch.manual_seed(0)
    trend, u = LightTrendHead(8), 100 + draw(1, 20_000, 8).float()
    expected = LightTrendHead(8).double()
    expected.load_state_dict(trend.state_dict())
    exact = expected(u.double())
    assert (trend(u) - exact).abs().max() < 2e-6 * exact.abs().max()


def test_light_trend_continues() -> None:
    trend, u = light(), draw(2, 300, 4)
    torch.testing.assert_close(trend.continued(u), trend(u)[:, 127:])
    fixed = FixedLightTrend(trend)
    torch.testing.assert_close(fixed.continued(u), trend(u)[:, 127:])
    torch.testing.assert_close(fixed.continued(u[:, 100:228]), trend(u)[:, 227:228])


def test_light_trend_is_light() -> None:
    assert sum(parameter.numel() for parameter in LightTrendHead(320).parameters()) < 110_000


def test_light_gradcheck() -> None:
    trend, u = light(2), draw(1, 6, 2).requires_grad_()
    assert torch.autograd.gradcheck(trend, (u,))
