"""Sinkhorn against a loop of exponentials, the conditions of optimality, closed forms and linear programming."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nearfar.sinkhorn import sinkhorn


def draw(n: int, m: int, seed: int = 0) -> Tensor:
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow(cost: Tensor, eps: float, row: Tensor, column: Tensor, iterations: int) -> list[list[float]]:
    """The definition, one number at a time, without logarithms."""
    kernel = [[math.exp(-c / eps) for c in line] for line in cost.tolist()]
    n, m = cost.shape
    a, b = [1.0] * n, [1.0] * m
    for _ in range(iterations):
        a = [row[i].item() / math.fsum(kernel[i][j] * b[j] for j in range(m)) for i in range(n)]
        b = [column[j].item() / math.fsum(kernel[i][j] * a[i] for i in range(n)) for j in range(m)]
    return [[a[i] * kernel[i][j] * b[j] for j in range(m)] for i in range(n)]


@pytest.mark.parametrize(("n", "m"), [(4, 3), (1, 5), (5, 1)])
@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_equals_the_definition(n: int, m: int, iterations: int) -> None:
    cost, row, column = draw(n, m), draw(1, n, 1)[0], draw(1, m, 2)[0]
    row, column = row / row.sum(), column / column.sum()
    plan = sinkhorn(cost, eps=0.2, row=3 * row, column=column, iterations=iterations)
    expected = torch.tensor(slow(cost, 0.2, row, column, iterations), dtype=torch.float64)
    torch.testing.assert_close(plan, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.05, 0.3, 5.0])
def test_is_the_optimum(eps: float, dtype: torch.dtype) -> None:
    cost = draw(12, 7).to(dtype)
    plan = sinkhorn(cost, eps=eps, iterations=2000)
    assert (plan.sum(1) * 12 - 1).abs().max() < 1e-4
    assert (plan.sum(0) * 7 - 1).abs().max() < 1e-5
    # Optimal is what has these sums and the form exp(f_i + g_j - C_ij / eps).
    potential = plan.log() + cost / eps
    mixed = potential - potential[:1] - potential[:, :1] + potential[0, 0]
    assert mixed.abs().max() < (1e-8 if dtype == torch.float64 else 1e-4)


def test_closed_forms() -> None:
    c, eps = 0.7, 0.4
    plan = sinkhorn(torch.tensor([[0, c], [c, 0]], dtype=torch.float64), eps=eps)
    share = 0.5 / (1 + math.exp(-c / eps))
    expected = torch.tensor([[share, 0.5 - share], [0.5 - share, share]], dtype=torch.float64)
    torch.testing.assert_close(plan, expected)
    row, column = torch.tensor([0.2, 0.8]), torch.tensor([0.1, 0.6, 0.3])
    for cost, weight in ((torch.full((2, 3), 5.0), 0.05), (draw(2, 3).float(), 1e6)):
        plan = sinkhorn(cost, eps=weight, row=row, column=column)
        torch.testing.assert_close(plan, row[:, None] * column, rtol=1e-5, atol=1e-7)


def test_small_eps_finds_the_cheapest_assignment() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    cost = draw(8, 8, 13)  # where the second best assignment is far off
    plan = sinkhorn(cost, eps=0.002, iterations=5000)
    rows, columns = optimize.linear_sum_assignment(cost.numpy())
    expected = torch.zeros(8, 8, dtype=torch.float64)
    expected[rows, columns] = 1 / 8
    assert (plan - expected).abs().max() < 1e-3
    # With unequal sums the optimum is no assignment, but still a linear programme.
    row, column = draw(1, 5, 4)[0], draw(1, 4, 5)[0]
    row, column, cost = row / row.sum(), column / column.sum(), draw(5, 4, 6)
    sums = [(i, j) for i in range(5) for j in range(4)]
    equal = [[float(i == k) for i, _ in sums] for k in range(5)]
    equal += [[float(j == k) for _, j in sums] for k in range(4)]
    best = optimize.linprog(cost.flatten().numpy(), A_eq=equal, b_eq=torch.cat([row, column]).numpy())
    plan = sinkhorn(cost, eps=0.001, row=row, column=column, iterations=5000)
    assert (plan * cost).sum().item() == pytest.approx(best.fun, abs=1e-3)


def test_tiny_eps_does_not_overflow() -> None:
    cost = 1000 * draw(6, 4).float()
    plan = sinkhorn(cost, eps=1e-5, iterations=50)
    assert plan.isfinite().all()
    assert (plan.sum(0) * 4 - 1).abs().max() < 1e-3
    # exp(-cost / eps) is 0 for every entry here: division by sums of it gives NaN.
    assert (cost / -1e-5).exp().max() == 0


def test_empty_rows_and_columns_get_nothing() -> None:
    row, column = torch.tensor([0.0, 1, 1]), torch.tensor([1.0, 0])
    plan = sinkhorn(draw(3, 2).float(), row=row, column=column, tolerance=1e-6)
    torch.testing.assert_close(plan, torch.tensor([[0, 0], [0.5, 0], [0.5, 0]]))


class Sums(TorchDispatchMode):
    """Counts log-sum-exps."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.logsumexp.default
        return func(*args, **kwargs or {})


def test_stops_when_it_is_near_enough() -> None:
    cost = draw(20, 10)
    with Sums() as few:  # type: ignore[no-untyped-call]
        plan = sinkhorn(cost, iterations=5000, tolerance=1e-3)
    with Sums() as most:  # type: ignore[no-untyped-call]
        sinkhorn(cost, iterations=500)
    assert most.count == 1000
    assert 4 < few.count < 1000
    error = (plan.sum(1) * 20 - 1).abs().max()
    assert 1e-5 < error <= 1e-3
    assert (plan.sum(0) * 10 - 1).abs().max() < 1e-10


def test_derivative_and_precision() -> None:
    cost = draw(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: sinkhorn(c, eps=0.3, iterations=5), (cost,))
    half = draw(4, 3).bfloat16()
    assert sinkhorn(half).dtype == torch.float32
    torch.testing.assert_close(sinkhorn(half), sinkhorn(half.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("cost: floating point", {"cost": torch.ones(2, 2, dtype=torch.int64)}),
        ("cost: finite", {"cost": torch.full((2, 2), math.inf)}),
        ("cost: .* n at least 1", {"cost": torch.ones(0, 2)}),
        ("cost: .* got shape", {"cost": torch.ones(2, 2, 2)}),
        ("eps: a finite positive", {"eps": 0.0}),
        ("iterations: at least 1", {"iterations": 0}),
        ("tolerance: a finite positive", {"tolerance": -1.0}),
        ("row: .* expected, got torch.float32 of shape", {"row": torch.ones(3)}),
        ("row: finite values of 0", {"row": torch.tensor([1.0, -1.0])}),
        ("column: at least one positive", {"column": torch.zeros(2)}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn(**{"cost": torch.ones(2, 2)} | options)
