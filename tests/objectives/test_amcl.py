"""AMCL against a loop, InfoNCE as its limit, the closed form of its regulariser, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import InfoNCE
from nearfar.objectives.amcl import AMCL, PairTemperature, temperature_energy
from nearfar.objectives.logsumexp import small_tiles
from nearfar.testing import LargestTensor, two_views


def seeded(dim: int = 4, spread: float = 3.0, **options: Any) -> AMCL:
    """In float64, its temperatures spread over the interval."""
    rng = torch.Generator().manual_seed(1)
    loss = AMCL(dim, **options).double()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) / 2)
        loss.temperature.out.weight.mul_(spread / 4)
    return loss


def slow(loss: AMCL, first: Tensor, second: Tensor) -> float:
    """The definition, one anchor at a time."""
    options, total = loss.config, 0.0
    size: int = options["head_dim"]

    def tau(a: Tensor, b: Tensor) -> float:
        pair = torch.cat([a, b if options["form"] == "pair" else a])
        hidden = (loss.temperature.hidden.weight @ pair + loss.temperature.hidden.bias).clamp(min=0)
        logit = float(loss.temperature.out.weight[0] @ hidden + loss.temperature.out.bias)
        return 1e-5 + (2 - 1e-5) / (1 + math.exp(-logit))

    def omega(x: float) -> float:
        return size / 2 * math.log(x) + 1 / x

    for c in range(options["heads"]):
        rows = slice(c * size, (c + 1) * size)
        heads = [
            F.normalize(x.detach() @ loss.project.weight[rows].T + loss.project.bias[rows])
            for x in (first, second)
        ]
        for anchors, keys in (heads, heads[::-1]):
            for i, anchor in enumerate(anchors):
                positive, tau_pos = float(anchor @ keys[i]), tau(anchor, keys[i])
                others = [j for j in range(len(keys)) if j != i]
                if options["negatives"] == "max":
                    n = max(others, key=lambda j: float(anchor @ keys[j]))
                    tau_neg = tau(anchor, keys[n])
                    negative = float(anchor @ keys[n]) / tau_neg
                else:
                    tau_neg = tau(anchor, anchor)
                    terms = [float(anchor @ keys[j]) / tau_neg for j in others]
                    negative = math.log(sum(map(math.exp, [*terms, positive / tau_pos])))
                energy = omega(tau_pos) - omega(tau_neg)
                total += negative - positive / tau_pos + options["beta"] * energy
    return total / (2 * len(first))


@pytest.mark.parametrize("edge", [None, 2])
@pytest.mark.parametrize("form", ["pair", "row"])
@pytest.mark.parametrize("negatives", ["lse", "max"])
@pytest.mark.parametrize(
    ("heads", "head_dim", "beta"), [(1, None, 0.1), (3, 5, 0.1), (2, 3, 0.0), (2, None, 1.0)]
)
@torch.no_grad()
def test_equals_the_definition(
    heads: int, head_dim: int | None, beta: float, negatives: Any, form: Any, edge: int | None
) -> None:
    loss = seeded(heads=heads, head_dim=head_dim, beta=beta, negatives=negatives, form=form)
    first, second = two_views(5)
    with small_tiles(edge):
        found = loss(first, second).item()
    assert found == pytest.approx(slow(loss, first, second), rel=1e-9)
    order = torch.tensor([3, 1, 0, 2, 4])
    assert loss(second[order], first[order]).item() == pytest.approx(found, rel=1e-9)


@torch.no_grad()
def constant(loss: AMCL, temperature: float) -> AMCL:
    loss.temperature.out.weight.zero_()
    loss.temperature.out.bias.fill_(math.log((temperature - 1e-5) / (2 - temperature)))
    return loss


@pytest.mark.parametrize("form", ["pair", "row"])
def test_one_head_of_constant_temperature_is_infonce(form: Any) -> None:
    loss = constant(seeded(heads=1, beta=0.0, form=form), 0.2)
    first, second = two_views(5)
    expected = InfoNCE(0.2, symmetric=True)(loss.project(first), loss.project(second))
    torch.testing.assert_close(loss(first, second), expected, rtol=1e-10, atol=0)


def test_hardest_negative_is_the_limit_of_infonce() -> None:
    first, second = two_views(5)
    loss = constant(seeded(heads=1, beta=0.0, negatives="max"), 0.1)
    a, b = (F.normalize(loss.project(x)) for x in (first, second))
    s = a @ b.mT
    hardest = s.masked_fill(torch.eye(5, dtype=torch.bool), -2)
    expected = (hardest.amax(1).mean() + hardest.amax(0).mean()) / 2 - s.diagonal().mean()
    torch.testing.assert_close(loss(first, second), expected / 0.1)


def test_best_temperature_of_a_positive() -> None:
    """Of -s / tau + Omega(tau): 2 (1 - s) / d."""
    for s, dim in ((0.2, 4), (0.9, 16), (-0.5, 8)):
        tau = torch.tensor(2 * (1 - s) / dim, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(-s / tau + temperature_energy(tau, dim), tau, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, tau)
        assert abs(slope.item()) < 1e-9
        assert curvature.item() > 0


def test_temperatures_stay_in_their_interval_and_start_where_asked() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 64, 6, generator=rng)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        temperature = PairTemperature(6, 0.3)
    assert temperature(a, b).sub(0.3).abs().max() < 0.1
    with torch.no_grad():
        temperature.out.weight.mul_(1e3)
    extreme = temperature(a, b)
    assert 1e-5 * (1 - 1e-4) <= extreme.min() < 1e-3
    assert 1.99 < extreme.max() <= 2
    with torch.no_grad():
        temperature.out.weight.zero_()
    torch.testing.assert_close(temperature(a, b), torch.full((64,), 0.3))


@pytest.mark.parametrize("edge", [None, 2])
@pytest.mark.parametrize("negatives", ["lse", "max"])
def test_derivatives(negatives: Any, edge: int | None) -> None:
    loss = seeded(3, heads=2, negatives=negatives)
    with small_tiles(edge):
        assert torch.autograd.gradcheck(loss, two_views(3, 3))
    fresh = seeded(3, heads=2, negatives=negatives)
    fresh(*two_views(4, 3)).backward()
    for name, parameter in fresh.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        numeric = numeric_gradient(fresh, parameter, two_views(4, 3))
        assert parameter.grad.flatten()[0].item() == pytest.approx(numeric, rel=1e-4, abs=1e-7), name


@torch.no_grad()
def numeric_gradient(loss: AMCL, parameter: Tensor, views: tuple[Tensor, Tensor]) -> float:
    """Of the first number of a parameter."""
    values = []
    for step in (1e-6, -2e-6):
        parameter.flatten()[0] += step
        values.append(loss(*views).item())
    parameter.flatten()[0] += 1e-6
    return float(values[0] - values[1]) / 2e-6


@pytest.mark.parametrize("negatives", ["lse", "max"])
def test_no_table_of_all_pairs(negatives: Any) -> None:
    first, second = two_views(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        AMCL(4, heads=2, negatives=negatives)(first, second).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    loss = AMCL(4)
    first, second = two_views(5, dtype=torch.bfloat16)
    expected = loss(first.float(), second.float())
    torch.testing.assert_close(loss(first, second), expected, rtol=0, atol=0)
    with torch.autocast("cpu"):
        torch.testing.assert_close(loss(first.float(), second.float()), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("dim: ", {"dim": 0}),
        ("heads: ", {"heads": 0}),
        ("head_dim: ", {"head_dim": 0}),
        ("beta: ", {"beta": -0.1}),
        ("negatives: ", {"negatives": "all"}),
        ("form: ", {"form": "column"}),
        ("initial_temperature: ", {"initial_temperature": 2.0}),
        ("initial_temperature: ", {"initial_temperature": math.nan}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        AMCL(**{"dim": 4} | options)


def test_bad_views_are_named() -> None:
    with pytest.raises(ValueError, match="first: 4 features"):
        AMCL(4)(torch.ones(3, 5), torch.ones(3, 5))
    with pytest.raises(ValueError, match="second: shape"):
        AMCL(4)(torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="initial: "):
        PairTemperature(4, 3.0)
