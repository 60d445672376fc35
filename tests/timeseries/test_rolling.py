"""Windows of a long series: the short way against encoding every window whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator
from nearfar.timeseries.encoder import (
    SeriesEncoder,
    causal_representations,
    represent_series,
    rolling_representations,
)
from nearfar.timeseries.encoder.series_encoder import Head, Normalize


def make(**settings: object) -> SeriesEncoder:
    torch.manual_seed(5)
    kept = {"dim": 14, "hidden": 6, "depth": 9, "num_covariates": 1, "trail": 30, **settings}
    return SeriesEncoder(3, **kept).double().eval()  # type: ignore[arg-type]


def series(steps: int) -> Tensor:
    x = torch.randn(steps, 3, generator=generator(0, "x"), dtype=torch.float64)
    x[60, 1] = torch.nan
    return x


def naive(encoder: SeriesEncoder, x: Tensor, window: int, start: int, stop: int) -> Tensor:
    """One window at a time, as long as there are steps before it and missing values where there are none."""
    rows = []
    with torch.no_grad():
        for t in range(start, stop):
            steps = [
                x[s] if s >= 0 else torch.full_like(x[0], torch.nan) for s in range(t - window + 1, t + 1)
            ]
            rows.append(encoder.represent(torch.stack(steps)[None])[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("head", ["none", "trend", "light"])
@pytest.mark.parametrize("window", [201, 130, 33, 2, 1])
def test_the_end_of_every_window(head: Head, window: int) -> None:
    encoder, x = make(head=head), series(280)
    found = rolling_representations(encoder, x, window=window, start=205, stop=235, batch_size=20)
    torch.testing.assert_close(found, naive(encoder, x, window, 205, 235), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("normalize", ["none", "series", "trailing"])
@pytest.mark.parametrize("head", ["none", "trend", "light"])
@pytest.mark.parametrize("depth", [0, 3, 7])
def test_every_kind_of_encoder(head: Head, normalize: Normalize, depth: int) -> None:
    encoder, x = make(head=head, normalize=normalize, depth=depth), series(100)
    found = rolling_representations(encoder, x, window=50, start=60, stop=76, batch_size=9)
    torch.testing.assert_close(found, naive(encoder, x, 50, 60, 76), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("head", ["none", "trend"])
def test_missing_values_precede_the_series(head: Head) -> None:
    encoder, x = make(head=head), series(90)
    found = rolling_representations(encoder, x, window=70)
    torch.testing.assert_close(found, naive(encoder, x, 70, 0, 90), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("normalize", ["none", "trailing"])
@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_windows_of_a_causal_encoder(head: Head, normalize: Normalize) -> None:
    encoder, x = make(head=head, normalize=normalize, causal=True, depth=4), series(100)
    found = rolling_representations(encoder, x, window=50, start=60, stop=76)
    torch.testing.assert_close(found, naive(encoder, x, 50, 60, 76), rtol=1e-9, atol=1e-11)


def test_single_precision_at_full_size() -> None:
    torch.manual_seed(0)
    encoder = SeriesEncoder(3, dim=64, head="trend").eval()
    x = series(300).float()
    found = rolling_representations(encoder, x, start=201, stop=265)
    expected = naive(encoder, x, 201, 201, 265)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("chunk", [1, 13, 1000])
@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_one_pass_in_chunks(head: Head, chunk: int) -> None:
    encoder = make(head=head, normalize="trailing", causal=True, depth=4)
    x = series(80 if chunk == 1 else 600)
    with torch.no_grad():
        expected = encoder.represent(x[None])[0]
    torch.testing.assert_close(
        causal_representations(encoder, x, chunk=chunk), expected, rtol=1e-9, atol=1e-11
    )
    both = causal_representations(encoder, torch.stack([x, x.flip(0)]), chunk=chunk)
    torch.testing.assert_close(both[0], expected, rtol=1e-9, atol=1e-11)


def test_a_whole_series() -> None:
    x = series(120)
    encoder = make(head="light")
    found = represent_series(encoder, x, window=30, first=40, stop=100)
    assert found.shape == (100, encoder.width)
    assert (found[:40] == 0).all()
    torch.testing.assert_close(found[40:], naive(encoder, x, 30, 40, 100))
    causal = make(causal=True, depth=3)
    with torch.no_grad():
        expected = causal.represent(x[None, :110])[0]
    torch.testing.assert_close(represent_series(causal, x, window=30, first=40, stop=110), expected)


def test_modes_of_modules_are_given_back() -> None:
    encoder = make(dropout=0.5).train()
    encoder.trunk.eval()
    x = series(80)
    done: list[int] = []
    found = rolling_representations(
        encoder, x, window=20, start=30, stop=70, batch_size=16, progress=done.append
    )
    assert done == [16, 16, 8]
    assert encoder.training
    assert encoder.dropout.training
    assert not encoder.trunk.training
    torch.testing.assert_close(found, rolling_representations(encoder, x, window=20, start=30, stop=70))
    assert found.requires_grad is False


def test_the_series_stays_as_it_was() -> None:
    x = series(120)
    before = x.clone()
    rolling_representations(make(head="trend"), x, window=80)
    causal_representations(make(causal=True, depth=3), x)
    torch.testing.assert_close(x, before, equal_nan=True, rtol=0, atol=0)


def test_an_encoder_of_somebody_else() -> None:
    class Sums(torch.nn.Module):
        width = 3

        def represent(self, x: Tensor) -> Tensor:
            return x.cumsum(1)

    x = torch.arange(24.0).view(8, 3)
    expected = torch.stack([x[t - 2 : t + 1].sum(0) for t in range(3, 8)])
    assert torch.equal(rolling_representations(Sums(), x, window=3, start=3), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window: a step at least"),
        ({"start": 50, "stop": 40}, "start, stop: 0 <= start <= stop <= 80 expected, got 50 and 40"),
        ({"stop": 81}, "start, stop"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_windows_that_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rolling_representations(make(), series(80), **settings)  # type: ignore[arg-type]


def test_shapes_and_ranges_that_are_refused() -> None:
    with pytest.raises(DataError, match=r"one series of floats, shape \(N, F\)"):
        rolling_representations(make(), series(80)[None])
    with pytest.raises(ConfigError, match="first, stop"):
        represent_series(make(), series(80), first=90)
    with pytest.raises(ConfigError, match="causal"):
        causal_representations(make(), series(80))
    with pytest.raises(ConfigError, match="chunk"):
        causal_representations(make(causal=True), series(80), chunk=0)
    with pytest.raises(DataError, match=r"shape \(N, F\) or \(B, N, F\)"):
        causal_representations(make(causal=True), series(80)[None, None])
