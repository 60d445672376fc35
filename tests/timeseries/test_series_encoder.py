"""The encoder as a whole: settings, causality, normalisation and pooling against loops over steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator
from nearfar.timeseries.encoder import SeriesEncoder, max_pool, pool
from nearfar.timeseries.encoder.normalization import LOWEST_SCALE, trailing_statistics
from nearfar.timeseries.encoder.series_encoder import Head, Normalize


def make(**settings: object) -> SeriesEncoder:
    torch.manual_seed(4)
    kept = {"dim": 12, "hidden": 6, "depth": 3, "trail": 9, **settings}
    return SeriesEncoder(3, **kept).double().eval()  # type: ignore[arg-type]


def series(rows: int = 2, steps: int = 60) -> Tensor:
    return torch.randn(rows, steps, 3, generator=generator(0, "x"), dtype=torch.float64)


def with_gaps(x: Tensor) -> Tensor:
    broken = x.clone()
    broken[0, :3, 2] = torch.nan
    broken[0, 20:25, 1] = torch.nan
    broken[1, 40:] = torch.nan
    return broken


def test_the_published_encoder_has_the_published_size() -> None:
    encoder = SeriesEncoder(8, head="trend")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 26_752_256
    names = list(encoder.state_dict())
    assert names[0].startswith("trunk.inputs")
    assert names[-1] == "head.convs.7.bias"


@pytest.mark.parametrize("head", ["none", "trend", "light"])
@pytest.mark.parametrize("normalize", ["none", "trailing"])
def test_a_causal_encoder_does_not_hear_the_future(head: Head, normalize: Normalize) -> None:
    encoder = make(causal=True, head=head, normalize=normalize).float()
    x = series(1, 220).float()
    before = encoder.represent(x)
    for step in (1, 57, 219):
        changed = x.clone()
        changed[:, step:] = 7 - 3 * changed[:, step:]
        changed[:, -1] = torch.nan
        assert torch.equal(encoder.represent(changed)[:, :step], before[:, :step])


@pytest.mark.parametrize("head", ["none", "trend", "light"])
@pytest.mark.parametrize(("causal", "normalize"), [(False, "none"), (True, "none"), (True, "trailing")])
def test_receptive_field(head: Head, causal: bool, normalize: Normalize) -> None:
    encoder = make(depth=1, causal=causal, head=head, normalize=normalize, trail=5)
    x, last = series(1, 400), 250
    reach = encoder.receptive_field - 1 - (0 if causal else encoder.trunk.reach)
    before = encoder.represent(x)[0, last]
    for step, heard in ((last - reach - 1, False), (last - reach, True)):
        changed = x.clone()
        changed[0, step] += 10
        assert (encoder.represent(changed)[0, last] - before).abs().max().gt(1e-12).item() is heard


def test_receptive_field_of_the_default_of_causal_encoders() -> None:
    settings = {"causal": True, "depth": 6, "dim": 2, "hidden": 2}
    assert SeriesEncoder(1, **settings).receptive_field == 509  # type: ignore[arg-type]
    assert SeriesEncoder(1, head="light", **settings).receptive_field == 509 + 127  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_a_missing_step_is_a_hidden_one(head: Head) -> None:
    encoder, x = make(head=head), series()
    mask = ~with_gaps(x).isnan().any(2, keepdim=True)
    assert torch.equal(encoder(with_gaps(x)), encoder(x, mask))


@pytest.mark.parametrize("normalize", ["none", "series", "trailing"])
def test_nothing_is_ever_missing_in_the_result(normalize: Normalize) -> None:
    x = with_gaps(series())
    x[1] = torch.nan
    assert make(normalize=normalize).represent(x).isfinite().all()


def statistics(values: list[float]) -> tuple[float, float]:
    """Mean and floored standard deviation of what is there."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 1.0
    mean = sum(known) / len(known)
    return mean, max(math.sqrt(sum((value - mean) ** 2 for value in known) / len(known)), LOWEST_SCALE)


@pytest.mark.parametrize("normalize", ["series", "trailing"])
@pytest.mark.parametrize("covariates", [0, 1])
def test_normalisation_by_loops(normalize: Normalize, covariates: int) -> None:
    encoder = make(normalize=normalize, num_covariates=covariates)
    x = with_gaps(series())
    x[0, 30:45, 2] = 5.0  # a window without any movement
    normal, level, log_scale = x.clone(), x.new_zeros(x.shape), x.new_zeros(x.shape)
    for b in range(2):
        for f in range(covariates, 3):
            for t in range(60):
                steps = x[b, :, f] if normalize == "series" else x[b, max(0, t - 8) : t + 1, f]
                mean, std = statistics(steps.tolist())
                normal[b, t, f] = (x[b, t, f] - mean) / std
                level[b, t, f], log_scale[b, t, f] = mean, math.log(std)
    plain = make()
    plain.load_state_dict(encoder.state_dict())
    found = encoder.represent(x)
    assert found.shape == (2, 60, encoder.width)
    torch.testing.assert_close(found[..., :12], plain(normal), rtol=1e-9, atol=1e-10)
    sides = torch.cat([level[..., covariates:], log_scale[..., covariates:]], 2)
    torch.testing.assert_close(found[..., 12:], sides, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(encoder(x), found[..., :12])


def test_trailing_statistics_far_from_zero() -> None:
    x = series(1, 5000)
    level, scale = trailing_statistics(1e6 + x, 50)
    near_level, near_scale = trailing_statistics(x, 50)
    torch.testing.assert_close(level - 1e6, near_level, rtol=0, atol=1e-8)
    torch.testing.assert_close(scale, near_scale, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("normalize", ["series", "trailing"])
def test_level_and_scale_of_the_signal_do_not_change_what_is_encoded(normalize: Normalize) -> None:
    encoder = make(normalize=normalize, num_covariates=1)
    x = series() + torch.arange(60)[:, None]  # no two steps so near that the scale is the least one
    moved = x.clone()
    moved[..., 1:] = 3 * moved[..., 1:] + 20
    before, after = encoder.represent(x), encoder.represent(moved)
    grown = slice(1, None) if normalize == "trailing" else slice(None)  # one step alone has the least scale
    torch.testing.assert_close(after[:, grown, 14:], before[:, grown, 14:] + math.log(3))
    torch.testing.assert_close(after[..., 12:14], 3 * before[..., 12:14] + 20)
    torch.testing.assert_close(after[..., :12], before[..., :12])


@pytest.mark.parametrize("normalize", ["none", "series", "trailing"])
def test_gradients_reach_the_input(normalize: Normalize) -> None:
    x = with_gaps(series())
    x[0, 30:45] = 1.0
    x.requires_grad_()
    make(normalize=normalize, head="light")(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0, 50].abs().max() > 0


def test_dropout_is_for_training_only() -> None:
    encoder, x = make(dropout=0.5), series()
    assert torch.equal(encoder(x), encoder(x))
    encoder.train()
    assert 0.3 < (encoder(x) == 0).double().mean() < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"causal": True, "normalize": "series"}, "normalize: series reads the future.*'trailing'"),
        ({"num_covariates": 3}, "num_covariates: from 0 to 2 of 3 channels expected, got 3"),
        ({"depth": -1}, "depth: 0 at least expected, got -1"),
        ({"dim": 0}, "dim: 1 at least"),
        ({"trail": 1}, "trail: 2 at least"),
        ({"dropout": 1.0}, r"dropout: a probability in \[0, 1\)"),
        ({"head": "season"}, "head: none, trend or light expected, got 'season'"),
        ({"normalize": "batch"}, "normalize: none, series or trailing"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


@pytest.mark.parametrize("shape", [(2, 3, 60), (60, 3), (2, 0, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"shape \(B, T, F\) with F = 3 channels"):
        make()(torch.zeros(shape, dtype=torch.float64))


def pooled_by_loops(z: Tensor, valid: Tensor, first: int, last: int) -> Tensor:
    """Largest valid value of the steps from t - first to t + last."""
    out = torch.zeros_like(z)
    for b in range(len(z)):
        for t in range(z.shape[1]):
            window = [s for s in range(t - first, t + last + 1) if 0 <= s < z.shape[1] and valid[b, s]]
            if window:
                out[b, t] = z[b, window].max(0).values
    return out


def test_pooling_by_loops() -> None:
    z = series(3, 12) - 5  # all negative: a zero of padding would win
    valid = torch.rand(3, 12, generator=generator(0, "valid")) < 0.5
    valid[2] = False
    rows = [z[b][valid[b]] for b in range(2)]
    zero = torch.zeros(1, 3, dtype=torch.float64)
    for how, expected in (
        ("max", [row.max(0).values for row in rows]),
        ("mean", [row.mean(0) for row in rows]),
        ("last", [row[-1] for row in rows]),
    ):
        torch.testing.assert_close(pool(z, how, valid), torch.cat([torch.stack(expected), zero]))  # type: ignore[arg-type]
    for span in (1, 2, 3, 6):
        expected_windows = pooled_by_loops(z, valid, span // 2, (span - 1) // 2)
        assert torch.equal(pool(z, span, valid), expected_windows)
    pyramid = [pooled_by_loops(z, valid, half, half) for half in (0, 1, 2, 4)]
    assert torch.equal(pool(z, "multiscale", valid), torch.cat(pyramid, 2))
    assert torch.equal(pool(z, "none", valid), torch.where(valid[..., None], z, 0))


def test_pooling_of_whole_series_is_pooling_with_all_steps_valid() -> None:
    z, valid = series(2, 9), torch.ones(2, 9, dtype=torch.bool)
    for how in ("max", "mean", "last", "none", "multiscale", 1, 4):
        assert torch.equal(pool(z, how), pool(z, how, valid))
    assert torch.equal(max_pool(z), z.max(1).values)


@pytest.mark.parametrize("how", ["sum", 0, -2, True])
def test_other_poolings_are_refused(how: object) -> None:
    with pytest.raises(ConfigError, match="pooling: "):
        pool(series(), how)  # type: ignore[arg-type]
