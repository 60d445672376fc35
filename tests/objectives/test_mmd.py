"""Maximum mean discrepancy against the double loop of its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives import mmd, row_tiles
from nearfar.objectives.mmd import Divergence, divergence


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_loop(x: Tensor, v: Tensor, *, biased: bool) -> float:
    rows = torch.cat([x, v])
    n, size = len(rows), len(x)
    distance = [[float(((a - b) ** 2).sum()) for b in rows] for a in rows]
    width = sum(map(sum, distance)) / (n * n - n)
    kernel = [[sum(math.exp(-d / (width / 4 * 2**m)) for m in range(5)) for d in row] for row in distance]
    within = across = 0.0
    for i in range(size):
        for j in range(size):
            if biased or i != j:
                within += kernel[i][j] + kernel[size + i][size + j]
            across += kernel[i][size + j]
    return within / (size * size if biased else size * (size - 1)) - 2 * across / size**2


@pytest.mark.parametrize("biased", [True, False])
def test_mmd_is_the_double_loop(biased: bool) -> None:
    x, v = normal(7, 3), normal(7, 3, seed=1) + 0.5
    found = divergence(x, v, "mmd" if biased else "mmd_unbiased")
    assert found.item() == pytest.approx(kernel_loop(x, v, biased=biased), rel=1e-9)


def test_mmd_of_equal_sets_is_zero_and_of_far_ones_bounded() -> None:
    x = normal(6, 4)
    assert divergence(x, x.flip(0)).item() == pytest.approx(0, abs=1e-12)
    assert 0 < divergence(x, x + 1e3).item() <= 10


def test_linear_divergence_is_the_distance_of_the_means() -> None:
    x, v = normal(5, 3), normal(5, 3, seed=1)
    assert divergence(x, v, "mean").item() == pytest.approx(float(((x.mean(0) - v.mean(0)) ** 2).sum()))


def test_no_gradient_through_the_bandwidth() -> None:
    x, v = normal(4, 2), normal(4, 2, seed=1)
    rows = torch.cat([x, v])
    width = float(torch.cdist(rows, rows).square().sum()) / 56
    held = v.clone().requires_grad_()
    both = torch.cat([x, held])
    squared = (both[:, None] - both).square().sum(2)
    kernel = sum(torch.exp(-squared / (width / 4 * 2**m)) for m in range(5))
    assert isinstance(kernel, Tensor)
    (kernel[:4, :4] + kernel[4:, 4:] - 2 * kernel[:4, 4:]).mean().backward()
    free = v.clone().requires_grad_()
    divergence(x, free).backward()
    assert torch.allclose(free.grad, held.grad, atol=1e-12)  # type: ignore[arg-type]


def test_constant_sets_have_finite_gradients() -> None:
    v = torch.zeros(3, 2, requires_grad=True)
    divergence(torch.zeros(3, 2), v).backward()
    assert v.grad is not None
    assert v.grad.isfinite().all()


def test_shapes_are_compared() -> None:
    with pytest.raises(ValueError, match=r"v: shape \(3, 2\)"):
        divergence(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="at least 2 rows"):
        divergence(torch.zeros(1, 2), torch.zeros(1, 2), "mmd_unbiased")


@pytest.mark.parametrize("kind", ["mmd", "mmd_unbiased"])
def test_by_rows_is_the_same(monkeypatch: pytest.MonkeyPatch, kind: Divergence) -> None:
    x, v = normal(9, 3).requires_grad_(), (normal(9, 3, seed=1) + 0.5).requires_grad_()
    wanted = torch.autograd.grad(divergence(x, v, kind), (x, v))
    expected = kernel_loop(x.detach(), v.detach(), biased=kind == "mmd")
    for numbers in (27, 1):  # several rows at a time, and one
        monkeypatch.setattr(row_tiles, "NUMBERS", numbers)
        monkeypatch.setattr(mmd, "CACHED", numbers)
        found = divergence(x, v, kind)
        assert found.item() == pytest.approx(expected, rel=1e-9)
        for got, want in zip(torch.autograd.grad(found, (x, v)), wanted, strict=True):
            torch.testing.assert_close(got, want)
        constant = torch.zeros(9, 3, requires_grad=True)
        (grad,) = torch.autograd.grad(divergence(torch.zeros(9, 3), constant, kind), constant)
        assert grad.abs().max() == 0


def test_equal_sets_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 1)
    monkeypatch.setattr(mmd, "CACHED", 1)
    x = normal(30, 4).float()
    assert divergence(x, x).item() == 0
    assert 0 < divergence(x, x + 1e3).item() <= 10
