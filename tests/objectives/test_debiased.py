"""Debiased and hard negatives against a loop, NT-Xent as their limit, and the defects of PyGCL."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import LearnableTemperature, NTXent
from nearfar.objectives.debiased import DebiasedInfoNCE, debiased_loss
from nearfar.objectives.logsumexp import small_tiles
from nearfar.testing import LargestTensor, two_views


def slow(
    first: Tensor, second: Tensor, temperature: float, tau_plus: float, beta: float
) -> tuple[float, int]:
    """The definition, one pair at a time, and how many rows the bound holds."""
    z = F.normalize(torch.cat([first, second]).detach())
    num, loss, bounded = len(first), 0.0, 0
    for i in range(2 * num):
        s = [float(z[i] @ z[j]) / temperature for j in range(2 * num)]
        positive = math.exp(s[(i + num) % (2 * num)])
        negatives = [s[j] for j in range(2 * num) if j % num != i % num]
        hard = sum(math.exp((1 + beta) * x) for x in negatives) / sum(math.exp(beta * x) for x in negatives)
        corrected, bound = (hard - tau_plus * positive) / (1 - tau_plus), math.exp(-1 / temperature)
        bounded += corrected < bound
        loss -= math.log(positive / (positive + len(negatives) * max(corrected, bound)))
    return loss / (2 * num), bounded


@pytest.mark.parametrize("edge", [None, 1, 4])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("temperature", "tau_plus"), [(0.5, 0.1), (0.5, 0.0), (0.2, 0.1), (1.0, 0.5)])
def test_equals_the_definition(temperature: float, tau_plus: float, beta: float, edge: int | None) -> None:
    first, second = two_views(5)
    loss = DebiasedInfoNCE(temperature, tau_plus, beta)
    expected, _ = slow(first, second, temperature, tau_plus, beta)
    with small_tiles(edge):
        assert loss(first, second).item() == pytest.approx(expected, rel=1e-10)
        order = torch.tensor([3, 1, 0, 2, 4])
        assert loss(3 * second[order], first[order]).item() == pytest.approx(expected, rel=1e-10)


def test_some_rows_are_bounded_and_some_are_not() -> None:
    """Otherwise the test above would see one branch only."""
    assert 0 < slow(*two_views(5), 0.2, 0.1, 0.0)[1] < 10
    assert slow(*two_views(5), 1.0, 0.1, 0.0)[1] == 0


@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.0])
def test_without_correction_it_is_ntxent(temperature: float) -> None:
    first, second = two_views(5)
    found = debiased_loss(first, second, temperature=temperature, tau_plus=0)
    torch.testing.assert_close(found, NTXent(temperature)(first, second), rtol=1e-10, atol=1e-12)


def test_known_answers() -> None:
    ones, eye = torch.ones(5, 3, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    # Equal rows: correction and weights change nothing, chance is log(2N - 1).
    for beta in (0.0, 2.0):
        assert debiased_loss(ones, ones, beta=beta).item() == pytest.approx(math.log(9))
    # Orthonormal: every negative has similarity 0, so its mean is 1 with any weights.
    positive = math.exp(2)
    corrected = max((1 - 0.1 * positive) / 0.9, math.exp(-2))
    for beta in (0.0, 2.0):
        found = debiased_loss(eye, eye, temperature=0.5, beta=beta).item()
        assert found == pytest.approx(math.log((positive + 8 * corrected) / positive))


def test_defects_of_pygcl() -> None:
    """It returns plus the log-probability, and multiplies by the number of negatives of all rows together."""
    first, second = two_views(16)
    loss = debiased_loss(first, second)
    assert loss > 0
    (grad,) = torch.autograd.grad(loss, first)
    assert debiased_loss(first - 0.1 * grad, second) < loss
    # A pair far closer than all others costs about nothing, and one among equals log(2N - 1), not log of 2N(2N - 2).
    ones = torch.ones(16, 3)
    assert debiased_loss(ones, ones).item() == pytest.approx(math.log(31), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("options", [{"temperature": 0.001}, {"similarity": "dot", "temperature": 0.1}])
def test_nothing_overflows(options: dict[str, Any], beta: float, dtype: torch.dtype) -> None:
    first, second = two_views(5, dtype=dtype)
    first, second = ((20 * x).detach().requires_grad_() for x in (first, second))  # dot products of hundreds
    loss = debiased_loss(first, second, beta=beta, **options)
    grads = torch.autograd.grad(loss, (first, second))
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in grads)
    if dtype == torch.float32:
        wide = debiased_loss(first.double(), second.double(), beta=beta, **options)
        assert loss.item() == pytest.approx(wide.item(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("edge", [None, 2])
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_derivatives(beta: float, edge: int | None) -> None:
    with small_tiles(edge):
        assert torch.autograd.gradcheck(
            lambda *x: debiased_loss(*x, temperature=0.7, beta=beta), two_views(3)
        )
    if beta == 0:  # with rows at the bound, too
        assert torch.autograd.gradcheck(lambda *x: debiased_loss(*x, temperature=0.2), two_views(5))
    temperature = LearnableTemperature(0.5)
    DebiasedInfoNCE(temperature, beta=beta)(*two_views(5)).backward()
    assert temperature.log_scale.grad is not None
    assert temperature.log_scale.grad != 0


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_no_table_of_all_pairs(beta: float) -> None:
    first, second = two_views(2048, 4, torch.float32)  # 4096 rows of both views
    with small_tiles(256), LargestTensor() as memory:
        debiased_loss(first, second, beta=beta).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(5, dtype=torch.bfloat16)
    found = debiased_loss(first, second, beta=1.0)
    torch.testing.assert_close(found, debiased_loss(first.float(), second.float(), beta=1.0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("tau_plus: ", {"tau_plus": 1.0}),
        ("tau_plus: ", {"tau_plus": -0.1}),
        ("tau_plus: ", {"tau_plus": math.nan}),
        ("beta: ", {"beta": -1.0}),
        ("similarity: ", {"similarity": "neg_sqdist"}),
        ("temperature: ", {"temperature": 0.0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        debiased_loss(*two_views(5), **options)
    with pytest.raises(ValueError, match=message):
        DebiasedInfoNCE(**options)
    with pytest.raises(ValueError, match="first: .* N at least 2"):
        debiased_loss(torch.ones(1, 2), torch.ones(1, 2))
