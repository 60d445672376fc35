"""Barlow Twins with temperatures against a loop, Barlow Twins as its limit, closed forms, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives.adaptive_barlow import AdaptiveBarlow, adaptive_barlow_loss
from nearfar.objectives.barlow_twins import BarlowTwins, barlow_twins_loss, cross_correlation
from nearfar.testing import draw, two_views

NUM, DIM = 9, 4


def temperatures(dim: int = DIM) -> Tensor:
    rng = torch.Generator().manual_seed(dim)
    return (0.05 + 1.9 * torch.rand(dim, dim, generator=rng, dtype=torch.float64)).requires_grad_()


def slow(first: Tensor, second: Tensor, tau: Tensor, weight: float, beta: float, eps: float) -> float:
    """The definition, one element at a time."""
    size = first.shape[1]

    def standard(x: Tensor) -> list[list[float]]:
        columns = []
        for column in x.T.tolist():
            mean = math.fsum(column) / len(column)
            variance = math.fsum((v - mean) ** 2 for v in column) / len(column)
            columns.append([(v - mean) / math.sqrt(variance + eps) for v in column])
        return columns

    a, b = standard(first), standard(second)
    loss = 0.0
    for i in range(size):
        for j in range(size):
            c = math.fsum(x * y for x, y in zip(a[i], b[j], strict=True)) / len(first)
            t = tau[i, j].item()
            omega = size / 2 * math.log(t) + 1 / t
            loss += (1 - c / t) ** 2 + beta * omega if i == j else weight * c * c / t - beta * omega
    return loss


@pytest.mark.parametrize(("weight", "value"), [(5e-3, 5e-3), (0.7, 0.7), ("1/d", 1 / DIM)])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_equals_the_definition(weight: Any, value: float, beta: float) -> None:
    first, second = two_views(NUM, DIM)
    tau = temperatures()
    expected = slow(first, second, tau, value, beta, 1e-5)
    options = {"off_diagonal_weight": weight, "beta": beta}
    assert adaptive_barlow_loss(first, second, tau, **options).item() == pytest.approx(expected, rel=1e-12)
    loss = AdaptiveBarlow(DIM, weight, beta, eps=0.1).double()
    with torch.no_grad():
        loss.logits.copy_(2 * draw(DIM, DIM))
    expected = slow(first, second, loss.temperature(), value, beta, 0.1)
    assert loss(first, second).item() == pytest.approx(expected, rel=1e-12)


def test_temperatures_of_one_are_barlow_twins_to_the_bit() -> None:
    for first, second in (two_views(NUM, DIM), two_views(NUM, DIM, torch.float32)):
        for weight in (0.02, "1/d"):
            options: dict[str, Any] = {"off_diagonal_weight": weight, "eps": 1e-3}
            found = adaptive_barlow_loss(first, second, torch.ones(DIM, DIM).to(first), beta=0.0, **options)
            expected = barlow_twins_loss(first, second, **options)
            assert torch.equal(found, expected)
            for grads in zip(
                *(torch.autograd.grad(x, (first, second)) for x in (found, expected)), strict=True
            ):
                torch.testing.assert_close(*grads)
    loss = AdaptiveBarlow(DIM, beta=0.0)
    first, second = two_views(NUM, DIM, torch.float32)
    torch.testing.assert_close(loss(first, second), BarlowTwins()(first, second))
    torch.testing.assert_close(loss.temperature(), torch.ones(DIM, DIM))


def test_one_temperature_rescales_barlow_twins() -> None:
    first, second = two_views(NUM, DIM)
    c, t = cross_correlation(first, second), 0.4
    on = ((t - c.diagonal()) / t).square().sum()
    off = 0.1 / t * (c.square().sum() - c.diagonal().square().sum())
    omega = DIM / 2 * math.log(t) + 1 / t
    found = adaptive_barlow_loss(
        first, second, torch.full((DIM, DIM), t, dtype=torch.float64), off_diagonal_weight=0.1, beta=0.2
    )
    torch.testing.assert_close(found, on + off + 0.2 * omega * (DIM - DIM * (DIM - 1)), rtol=1e-12, atol=0)


def test_temperatures_are_at_rest_where_the_closed_form_says() -> None:
    first, second = two_views(NUM, DIM)
    weight, beta = 0.1, 0.3
    with torch.no_grad():
        c = cross_correlation(first, second)
        # 2 c (t - c) + beta (d / 2 t^2 - t) = 0 on the diagonal, t = 2 (1 - lambda c^2 / beta) / d beside it.
        half, own = beta * DIM / 2, c.diagonal()
        lead = 2 * own - beta
        root = (-lead + (lead.square() + 8 * half * own.square()).sqrt()) / (2 * half)
        tau = 2 * (1 - weight * c.square() / beta) / DIM
        tau.diagonal().copy_(root)
    tau.requires_grad_()
    loss = adaptive_barlow_loss(first, second, tau, off_diagonal_weight=weight, beta=beta)
    (gradient,) = torch.autograd.grad(loss, tau)
    assert gradient.abs().max() < 1e-12
    moved = (tau.detach() * 1.1).requires_grad_()
    (gradient,) = torch.autograd.grad(
        adaptive_barlow_loss(first, second, moved, off_diagonal_weight=weight, beta=beta), moved
    )
    assert (gradient.diagonal() > 1e-3).all()  # a minimum
    assert (gradient[~torch.eye(DIM, dtype=torch.bool)] < -1e-3).all()  # a maximum


def test_derivatives() -> None:
    inputs = (*two_views(5, 3), temperatures(3))
    assert torch.autograd.gradcheck(lambda *x: adaptive_barlow_loss(*x, beta=0.2), inputs)
    loss = AdaptiveBarlow(3, 0.5, beta=0.2).double()

    def of_logits(logits: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(loss, {"logits": logits}, inputs[:2])
        return found

    assert torch.autograd.gradcheck(of_logits, draw(3, 3).requires_grad_())


def test_temperatures_stay_between_their_bounds_and_learn() -> None:
    loss = AdaptiveBarlow(DIM, beta=0.1, initial_temperature=1.5)
    first, second = (x.detach() for x in two_views(64, DIM, torch.float32))
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    before = loss(first, second).item()
    for _ in range(50):
        optimizer.zero_grad()
        loss(first, second).backward()
        optimizer.step()
    assert loss(first, second).item() < before
    assert ((loss.temperature() > 1e-5) & (loss.temperature() < 2)).all()
    with torch.no_grad():
        loss.logits.fill_(-1e4)
    assert loss(first, second).isfinite()


def test_half_precision_is_computed_in_float32() -> None:
    first, second = two_views(NUM, DIM, torch.bfloat16)
    loss = AdaptiveBarlow(DIM, beta=0.1)
    expected = loss(first.float(), second.float())
    torch.testing.assert_close(loss(first, second), expected, rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(first.float(), second.float()), expected, rtol=0, atol=0)


def test_the_cross_correlation_is_pearsons() -> None:
    first, second = two_views(NUM, DIM)
    expected = torch.corrcoef(torch.cat([first, second], 1).T)[:DIM, DIM:]
    torch.testing.assert_close(cross_correlation(first, second, eps=1e-14), expected)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("dim: at least 1", {"dim": 0}),
        ("off_diagonal_weight: ", {"off_diagonal_weight": -1.0}),
        ("off_diagonal_weight: '1/d'", {"off_diagonal_weight": "d"}),
        ("beta: ", {"beta": math.nan}),
        ("eps: ", {"eps": 0.0}),
        ("initial_temperature: a temperature between", {"initial_temperature": 2.0}),
    ],
)
def test_bad_settings_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveBarlow(**{"dim": DIM, **options})


def test_bad_tensors_are_named() -> None:
    first, second = two_views(NUM, DIM, torch.float32)
    with pytest.raises(ValueError, match="first: 5 features"):
        AdaptiveBarlow(5)(first, second)
    with pytest.raises(ValueError, match="second: shape"):
        AdaptiveBarlow(DIM)(first, second[:3])
    with pytest.raises(ValueError, match="first: .* N at least 2"):
        AdaptiveBarlow(DIM)(first[:1], second[:1])
    for bad in (torch.ones(DIM), torch.ones(DIM, DIM + 1), torch.zeros(DIM, DIM), torch.ones(2, DIM)):
        with pytest.raises(ValueError, match="temperature: "):
            adaptive_barlow_loss(first, second, bad)
    for numbers in ({"beta": -1.0}, {"eps": -1.0}, {"off_diagonal_weight": math.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(numbers))}: "):
            adaptive_barlow_loss(first, second, torch.ones(DIM, DIM), **numbers)
