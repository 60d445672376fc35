"""The trunk against one written with plain padded convolutions; what it must not hear; missing values."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.runtime import generator
from nearfar.timeseries.encoder.trunk import DilatedConv, Trunk


def make(**settings: object) -> Trunk:
    torch.manual_seed(3)
    return Trunk(3, **{"dim": 10, "hidden": 6, "depth": 4, **settings}).double()  # type: ignore[arg-type]


def series(steps: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, steps, 3, generator=generator(0, "x"), dtype=torch.float64)


def plain(trunk: Trunk, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Padded convolutions all the way, read off the state."""
    state = trunk.state_dict()
    h = F.linear(x, state["inputs.weight"], state["inputs.bias"])
    h = (h if mask is None else h * mask).transpose(1, 2)
    for i in range(len(trunk.blocks)):
        inner = h
        for name in ("conv1", "conv2"):
            left, right = (2 * 2**i, 0) if trunk.causal else (2**i, 2**i)
            padded = F.pad(F.gelu(inner), (left, right))
            weight, bias = (state[f"blocks.{i}.{name}.{part}"] for part in ("weight", "bias"))
            inner = F.conv1d(padded, weight, bias, dilation=2**i)
        if f"blocks.{i}.skip.weight" in state:
            h = F.conv1d(h, state[f"blocks.{i}.skip.weight"], state[f"blocks.{i}.skip.bias"])
        h = inner + h
    return h.transpose(1, 2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 16, 17, 40])
def test_padded_convolutions(steps: int, causal: bool) -> None:
    trunk, x = make(causal=causal), series(steps)
    mask = torch.rand(2, steps, 1, generator=generator(0, "mask")) < 0.5
    torch.testing.assert_close(trunk(x), plain(trunk, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(trunk(x, mask), plain(trunk, x, mask), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("steps", [3, 4, 5, 8, 9])
def test_taps_outside_the_series_are_left_out(steps: int, causal: bool) -> None:
    conv = DilatedConv(2, 3, 4, causal=causal)
    x = torch.randn(1, 2, steps, generator=generator(0, "x"))
    padded = F.pad(x, (8, 0) if causal else (4, 4))
    expected = F.conv1d(padded, conv.weight, conv.bias, dilation=4)
    torch.testing.assert_close(conv(x), expected)


def test_modules_are_made_in_the_published_order() -> None:
    names = [name for name, _ in make(depth=1).named_parameters()]
    assert [name for name in names if name.endswith("weight")] == [
        "inputs.weight",
        "blocks.0.conv1.weight",
        "blocks.0.conv2.weight",
        "blocks.1.conv1.weight",
        "blocks.1.conv2.weight",
        "blocks.1.skip.weight",
    ]


@pytest.mark.parametrize("causal", [False, True])
def test_reach_is_where_it_stops_hearing(causal: bool) -> None:
    trunk, x, middle = make(depth=2, causal=causal), series(120, rows=1), 60
    heard = []
    for step in range(120):
        changed = x.clone()
        changed[0, step] += 1
        if not torch.equal(trunk(changed)[0, middle], trunk(x)[0, middle]):
            heard.append(step)
    assert min(heard) == middle - trunk.reach
    assert max(heard) == (middle if causal else middle + trunk.reach)


@pytest.mark.parametrize("causal", [False, True])
def test_a_missing_step_is_a_hidden_one(causal: bool) -> None:
    trunk, x = make(causal=causal), series(50)
    mask = torch.ones(2, 50, 1, dtype=torch.bool)
    mask[0, 7], mask[1, 20:30] = False, False
    broken = x.clone()
    broken[0, 7, 1] = torch.nan
    broken[1, 20:30] = torch.nan
    assert torch.equal(trunk(broken), trunk(x, mask))


def test_missing_values_reach_no_gradient() -> None:
    trunk, x = make(), series(20)
    x[0, 3, 1] = torch.nan
    x.requires_grad_()
    trunk(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad[0, 3] == 0).all()
    for parameter in trunk.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_a_series_without_any_value() -> None:
    assert make()(torch.full((1, 9, 3), torch.nan, dtype=torch.float64)).isfinite().all()
