"""OpTA: the definition by loops, its limits, and prototypes that were off."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.prototypes import opta


def draws(classes: int = 3, queries: int = 9, dim: int = 4) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, dim, generator=rng, dtype=torch.float64) for n in (classes, queries))  # type: ignore[return-value]


def slow(
    p: list[list[float]], q: list[list[float]], eps: float, passes: int, keep: float
) -> list[list[float]]:
    """The definition, one number at a time, by exponentials."""
    for _ in range(passes):
        cost = [[math.dist(a, b) ** 2 for b in q] for a in p]
        largest = max(map(max, cost))
        kernel = [[math.exp(-c / largest / eps) for c in row] for row in cost]
        u, v = [1.0] * len(p), [1.0] * len(q)
        for _ in range(3000):
            u = [1 / len(p) / math.fsum(k * y for k, y in zip(row, v, strict=True)) for row in kernel]
            v = [1 / len(q) / math.fsum(kernel[i][j] * u[i] for i in range(len(p))) for j in range(len(q))]
        moved = []
        for i, row in enumerate(kernel):
            weight = [k * y for k, y in zip(row, v, strict=True)]
            mean = [
                math.fsum(w * b[place] for w, b in zip(weight, q, strict=True)) / math.fsum(weight)
                for place in range(len(q[0]))
            ]
            moved.append([keep * old + (1 - keep) * new for old, new in zip(p[i], mean, strict=True)])
        p = moved
    return p


@pytest.mark.parametrize(
    ("passes", "keep", "eps"), [(1, 0.0, 0.05), (5, 0.0, 0.1), (2, 0.3, 0.05), (0, 0.0, 0.1)]
)
def test_equals_the_definition(passes: int, keep: float, eps: float) -> None:
    prototypes, queries = draws()
    found = opta(prototypes, queries, passes=passes, keep=keep, eps=eps, iterations=3000, tolerance=1e-12)
    expected = torch.tensor(
        slow(prototypes.tolist(), queries.tolist(), eps, passes, keep), dtype=torch.float64
    )
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_much_entropy_gives_the_mean_of_the_queries() -> None:
    prototypes, queries = draws()
    found = opta(prototypes, queries, eps=1e7, passes=1)
    torch.testing.assert_close(found, queries.mean(0).expand(3, -1), rtol=1e-5, atol=1e-5)


def test_queries_that_are_the_prototypes_move_nothing() -> None:
    prototypes, _ = draws(5)
    queries = prototypes.repeat(4, 1)[torch.randperm(20, generator=torch.Generator().manual_seed(1))]
    found = opta(prototypes, queries, eps=1e-3)
    torch.testing.assert_close(found, prototypes, rtol=1e-8, atol=1e-8)
    assert (opta(prototypes, queries, eps=1.0) - prototypes).abs().max() > 0.1


def test_one_bad_example_a_class_is_put_right() -> None:
    rng = torch.Generator().manual_seed(3)
    centres = 3 * torch.eye(4)
    queries = centres.repeat_interleave(25, 0) + torch.randn(100, 4, generator=rng)
    prototypes = centres + 1.2 * torch.randn(4, 4, generator=rng)
    found = opta(prototypes, queries)
    assert (found - centres).norm(dim=1).mean() < 0.5 * (prototypes - centres).norm(dim=1).mean()


def test_derivative_and_precision() -> None:
    prototypes, queries = (x.requires_grad_() for x in draws())
    assert torch.autograd.gradcheck(
        lambda p, q: opta(p, q, passes=2, eps=0.5, iterations=5, tolerance=1e-30), (prototypes, queries)
    )
    half = [x.detach().bfloat16() for x in (prototypes, queries)]
    assert opta(*half).dtype == torch.float32
    torch.testing.assert_close(opta(*half), opta(*(x.float() for x in half)), rtol=0, atol=0)
    same = torch.ones(2, 3)
    torch.testing.assert_close(opta(same, same), same)  # all costs are zero


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("prototypes: floating point", {"prototypes": torch.ones(2, 2, dtype=torch.int64)}),
        ("prototypes: .* with C at least 1", {"prototypes": torch.ones(0, 2)}),
        ("queries: .* 2 features", {"queries": torch.ones(4, 3)}),
        ("queries: finite", {"queries": torch.full((4, 2), math.nan)}),
        ("passes: 0 or more", {"passes": -1}),
        ("keep: a number in", {"keep": 1.1}),
        ("eps: a finite positive", {"eps": 0.0}),
        ("iterations: at least 1", {"iterations": 0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"prototypes": torch.ones(2, 2), "queries": torch.ones(4, 2)}
    with pytest.raises(ValueError, match=message):
        opta(**usual | options)
