"""Points that come one by one get the representations of one pass over all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator
from nearfar.timeseries.encoder import SeriesEncoder, StreamingEncoder
from nearfar.timeseries.encoder.series_encoder import Head, Normalize


def make(**settings: object) -> SeriesEncoder:
    torch.manual_seed(6)
    kept = {"dim": 14, "hidden": 6, "depth": 4, "num_covariates": 1, "trail": 30, "causal": True, **settings}
    return SeriesEncoder(3, **kept).double().eval()  # type: ignore[arg-type]


def series(steps: int) -> Tensor:
    x = torch.randn(2, steps, 3, generator=generator(0, "x"), dtype=torch.float64)
    x[0, :4] = torch.nan
    x[1, steps // 2, 1] = torch.nan
    return x


@pytest.mark.parametrize("normalize", ["none", "trailing"])
@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_a_stream_equals_one_pass(head: Head, normalize: Normalize) -> None:
    encoder = make(head=head, normalize=normalize)
    counts = [1, 1, 2, 3, 5, 7, 11, 16, 17, 31, 32, 33, 1, 1, 64, 65, 1, 150, 1, 2]
    x = series(sum(counts))
    with torch.no_grad():
        expected = encoder.represent(x)
    stream = StreamingEncoder(encoder)
    begin = 0
    for count in counts:
        piece = x[:, begin] if count == 1 else x[:, begin : begin + count]
        found = stream.push(piece)
        wanted = expected[:, begin] if count == 1 else expected[:, begin : begin + count]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
        begin += count


def test_single_precision() -> None:
    encoder = make(head="trend", normalize="trailing").float()
    x = series(250).float()
    with torch.no_grad():
        expected = encoder.represent(x)
    stream = StreamingEncoder(encoder)
    found = torch.stack([stream.push(x[:, t]) for t in range(250)], 1)
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_a_stream_goes_on_elsewhere(head: Head) -> None:
    encoder, x = make(head=head, normalize="trailing"), series(100)
    stream, other = StreamingEncoder(encoder), StreamingEncoder(encoder)
    stream.push(x[:, :37])
    for t in range(37, 60):
        stream.push(x[:, t])
    kept = stream.state_dict()
    expected = torch.stack([stream.push(x[:, t]) for t in range(60, 80)], 1)
    other.push(x[:, 7:18])
    other.load_state_dict(kept)
    torch.testing.assert_close(torch.stack([other.push(x[:, t]) for t in range(60, 80)], 1), expected)
    other.load_state_dict(StreamingEncoder(encoder).state_dict())
    stream.reset()
    assert torch.equal(other.push(x[:, :5]), stream.push(x[:, :5]))


def test_series_of_a_stream_do_not_hear_each_other() -> None:
    encoder, x = make(head="light"), series(40)
    both, one = StreamingEncoder(encoder), StreamingEncoder(encoder)
    for t in range(40):
        torch.testing.assert_close(both.push(x[:, t])[1:], one.push(x[1:, t]))


def test_dropout_is_not_applied() -> None:
    encoder, x = make(dropout=0.5), series(30)
    expected = StreamingEncoder(encoder).push(x)
    assert torch.equal(StreamingEncoder(encoder.train()).push(x), expected)


def test_what_is_remembered_does_not_grow() -> None:
    """All work for a point is on what is remembered and the point."""
    encoder, x = make(head="light", depth=6, normalize="trailing"), series(800)
    stream = StreamingEncoder(encoder)
    stream.push(x[:, :3])
    sizes = {name: state.shape for name, state in stream.state_dict().items()}
    assert sum(shape[1] for shape in sizes.values() if shape[2] == 3) == 29
    for t in range(3, 100):
        stream.push(x[:, t])
    stream.push(x[:, 100:])
    assert {name: state.shape for name, state in stream.state_dict().items()} == sizes


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="causal=True"):
        StreamingEncoder(make(causal=False))
    stream = StreamingEncoder(make())
    stream.push(series(5))
    with pytest.raises(DataError, match=r"1 series, but the stream began with 2; reset\(\)"):
        stream.push(series(5)[:1])
    with pytest.raises(DataError, match=r"shape \(B, F\) or \(B, n, F\)"):
        stream.push(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ConfigError, match="parts"):
        StreamingEncoder(make(depth=2)).load_state_dict(stream.state_dict())
    with pytest.raises(ConfigError, match="part 0 remembers 0 steps, 29 expected"):
        StreamingEncoder(make(normalize="trailing")).load_state_dict(stream.state_dict())
