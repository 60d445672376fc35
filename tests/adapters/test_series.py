"""Series and what stands in front of models of them: nearfar's, tsai's, anybody's."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import SeriesInputs, SeriesRepresentation, representations
from nearfar.augment.series import Flip, HiddenBinomial, Jitter
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator
from nearfar.timeseries.encoder import SeriesEncoder


def series(n: int = 5, steps: int = 12, channels: int = 3) -> Tensor:
    return torch.randn(n, steps, channels, generator=generator(0, "series"))


def padded() -> Tensor:
    """Series 0 begins late, 1 ends early, 2 has a gap, 3 lacks a channel at one step."""
    x = series()
    x[0, :3] = x[1, 8:] = x[2, 5] = x[3, 4, 1] = torch.nan
    return x


def test_views_differ_repeat_and_leave_the_batch_alone() -> None:
    x = padded()
    before, inputs = x.clone(), SeriesInputs(x)
    first = inputs.two_views(x, generator(3, "views"))
    again = inputs.two_views(x, generator(3, "views"))
    other = inputs.two_views(x, generator(4, "views"))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.shape == x.shape
        assert torch.equal(a.nan_to_num(99), b.nan_to_num(99))
        assert not torch.equal(a.nan_to_num(99), c.nan_to_num(99))
    assert not torch.equal(first[0].nan_to_num(99), first[1].nan_to_num(99))
    assert torch.equal(x.nan_to_num(99), before.nan_to_num(99))


def test_draws_do_not_depend_on_the_precision() -> None:
    single = SeriesInputs(series()).two_views(series(), generator(0, "v"))
    double = SeriesInputs(series().double()).two_views(series().double(), generator(0, "v"))
    for a, b in zip(single, double, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_padding_stays_padding_and_nothing_comes_out_of_it() -> None:
    x = padded()
    for view in SeriesInputs(x).two_views(x, generator(0, "views")):
        for row in (0, 1, 4):  # those without gaps inside
            assert torch.equal(view[row].isnan(), x[row].isnan())


def test_operations_are_the_users() -> None:
    x = series()
    inputs = SeriesInputs(x, views=(Flip(), Jitter(std=0.5)), weak=Flip())
    first, second = inputs.two_views(x, generator(0, "views"))
    assert torch.equal(first, -x)
    assert (second - x).std().item() == pytest.approx(0.5, rel=0.2)
    assert torch.equal(inputs.weak(x, generator(0, "weak")), -x)
    assert SeriesInputs(x).weak(x, generator(0, "weak")) is x


def test_operations_that_are_refused() -> None:
    x = series()
    with pytest.raises(ConfigError, match="views, weak: operations of nearfar.augment.series expected"):
        SeriesInputs(x, views=(Flip(),))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="views, weak: operations"):
        SeriesInputs(x, weak=lambda batch: batch)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="HiddenBinomial hides steps inside an encoder"):
        SeriesInputs(x, views=HiddenBinomial()).two_views(x, generator(0, "views"))


def test_mix() -> None:
    x, order, share = series(), torch.tensor([1, 0, 4, 3, 2]), torch.tensor([0.1, 0.2, 0.3, 0.4, 1.0])
    mixed = SeriesInputs(x).mix(x, order, share)
    for i in range(5):
        assert torch.equal(mixed[i], share[i] * x[i] + (1 - share[i]) * x[order[i]])


def test_mix_without_a_common_step_keeps_the_series() -> None:
    x = series(2, 4, 1)
    x[0, :2] = x[1, 2:] = torch.nan
    mixed = SeriesInputs(x).mix(x, torch.tensor([1, 0]), torch.tensor(0.5))
    assert torch.equal(mixed.nan_to_num(9), x.nan_to_num(9))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3, 4, 5)), r"shape \(N, T, F\) .* got \(2, 3, 4, 5\)"),
        (np.zeros((0, 3, 4)), r"got \(0, 3, 4\)"),
        ([[1.0, np.inf], [1.0, 2.0]], r"series 0 holds an infinite value \(1 such series\)"),
        ([[1.0, 2.0], [np.nan, np.nan]], "series 1 has no value at all"),
    ],
)
def test_series_that_are_refused(x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SeriesInputs(x)


def test_one_channel_needs_no_axis_and_integers_become_numbers() -> None:
    inputs = SeriesInputs(np.arange(6).reshape(2, 3))
    assert inputs.rows(torch.tensor([1])).tolist() == [[[3.0], [4.0], [5.0]]]


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_nearfars_encoders_end_to_end(pooling: Any) -> None:
    encoder = SeriesEncoder(3, dim=6, hidden=8, depth=2)
    module, inputs = SeriesRepresentation(encoder, pooling=pooling), SeriesInputs(padded().double())
    z = representations(module, inputs, batch_size=2)
    assert z.shape == (5, 6)
    assert module.dim == 6
    encoder.eval()
    for row in range(5):
        x = padded()[row]
        states = encoder.represent(x[None])[0]
        kept = states[~x.isnan().any(1)]  # the encoder hides a step that lacks a channel
        expected = kept.amax(0) if pooling == "max" else kept.mean(0)
        torch.testing.assert_close(z[row], expected.detach(), rtol=1e-4, atol=1e-5)


class Plus(nn.Module):
    """A stand-in for tsai's models: channels first, ``head_nf`` of them behind the backbone."""

    def __init__(self, *last: nn.Module) -> None:
        super().__init__()
        self.head_nf = 4
        self.backbone = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), *last)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("the head is not asked for")


def test_backbones_get_channels_first_and_no_nan() -> None:
    model, x = Plus(), padded()
    z = SeriesRepresentation(model, pooling="mean")(x)
    states = model.backbone(x.nan_to_num(0).mT).mT
    for row in range(5):
        kept = states[row][~x[row].isnan().all(1)]
        torch.testing.assert_close(z[row], kept.mean(0))
    assert SeriesRepresentation(model).dim == 4


def test_backbones_that_change_the_number_of_steps_are_pooled_over_all() -> None:
    model, x = Plus(nn.AvgPool1d(2)), padded()
    torch.testing.assert_close(SeriesRepresentation(model)(x), model.backbone(x.nan_to_num(0).mT).amax(2))
    flat = Plus(nn.AdaptiveAvgPool1d(1), nn.Flatten())
    torch.testing.assert_close(SeriesRepresentation(flat)(x), flat.backbone(x.nan_to_num(0).mT))


def test_other_models_are_given_the_layout_they_ask_for() -> None:
    x = series()
    last = nn.Linear(3, 2)
    torch.testing.assert_close(SeriesRepresentation(last)(x), last(x).amax(1))
    conv = nn.Conv1d(3, 2, 1)
    torch.testing.assert_close(SeriesRepresentation(conv, layout="NCT")(x), conv(x.mT).amax(2))
    vectors = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    torch.testing.assert_close(SeriesRepresentation(vectors)(x), vectors(x))


def test_representations_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="layout: 'NTC' or 'NCT' expected, got 'TNC'"):
        SeriesRepresentation(nn.Identity(), layout="TNC")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pooling: 'max' or 'mean' expected, got 'sum'"):
        SeriesRepresentation(nn.Identity(), pooling="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Flatten has to give \(B, m\) .* got \(180,\)"):
        SeriesRepresentation(nn.Flatten(0))(series())


def test_a_gradient_reaches_the_model_past_missing_values() -> None:
    encoder = SeriesEncoder(3, dim=6, hidden=8, depth=2)
    SeriesRepresentation(encoder)(padded()).square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


@pytest.mark.interop
def test_tsai_end_to_end() -> None:
    """In a process of its own: importing tsai changes what is loaded for all that follow."""
    if not installed("tsai"):
        pytest.skip(f"needs tsai: {PACKAGES['tsai'].command}")
    code = """
        import json, torch
        from nearfar.adapters import SeriesInputs, SeriesRepresentation, representations
        from nearfar.interop.tsai import load
        from nearfar.runtime import generator, initial_weights
        x = torch.randn(6, 20, 3, generator=generator(0, "x"))
        report = {}
        with initial_weights(0):
            model = load("tsai.models.FCNPlus").FCNPlus(3, 2)
        module = SeriesRepresentation(model, pooling="mean")
        z = representations(module, SeriesInputs(x), batch_size=4)
        model.eval()
        expected = model.backbone(x.mT).mean(2)
        report["FCNPlus"] = [list(z.shape), module.dim, (z - expected).abs().max().item()]
        print(json.dumps(report))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shape, dim, difference = json.loads(done.stdout.splitlines()[-1])["FCNPlus"]
    assert shape == [6, 128]
    assert dim == 128
    assert difference < 1e-5
