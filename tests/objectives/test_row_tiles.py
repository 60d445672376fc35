"""Losses in tiles of rows: same values and gradients of both orders for every tile, in the memory of one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.testing import LargestTensor


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()


def distances(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).square().sum(-1)


def tiled(rows: Tensor, bias: Tensor, keys: Tensor, tile: int | None) -> Tensor:
    """A softmax of distances, with a number of every row and keys that belong to no row."""
    return by_row_tiles(
        lambda x, b: (distances(x, keys) * b[:, None]).logsumexp(1), rows, bias, width=7, tile=tile
    )


@pytest.mark.parametrize("tile", [1, 2, 5, 6, None])
def test_tiles_change_nothing(tile: int | None) -> None:
    inputs = draw(5, 3), draw(5, seed=1), draw(7, 3, seed=2)
    rows, bias, keys = inputs
    expected = (distances(rows, keys) * bias[:, None]).logsumexp(1)
    found = tiled(*inputs, tile)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    weight = torch.arange(5.0, dtype=torch.float64)
    found_grads = torch.autograd.grad(weight @ found, inputs)
    torch.testing.assert_close(
        found_grads, torch.autograd.grad(weight @ expected, inputs), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("tile", [1, 2, 3])
def test_gradients_of_both_orders(tile: int) -> None:
    inputs = draw(3, 2), draw(3, seed=1), draw(4, 2, seed=2)
    assert torch.autograd.gradcheck(lambda x, b, k: tiled(x, b, k, tile), inputs)
    assert torch.autograd.gradgradcheck(lambda x, b, k: tiled(x, b, k, tile), inputs)


def test_more_than_one_value_a_row_and_no_gradient() -> None:
    rows = draw(5, 3)
    with torch.no_grad():
        found = by_row_tiles(lambda x: torch.stack([x, 2 * x], 1), rows, width=3, tile=2)
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.stack([rows, 2 * rows], 1).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_is_that_of_one_tile(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    num = 4096
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**18)
    rows, keys = draw(num, 4, dtype=dtype), draw(num, 4, seed=1, dtype=dtype)
    with LargestTensor() as memory:
        by_row_tiles(lambda x: (x @ keys.mT).logsumexp(1), rows, width=num).sum().backward()
    assert 2**18 <= memory.numbers < num * num / 8  # the lower bound: it does count
    # One tile for all would hold the table.
    with LargestTensor() as memory:
        by_row_tiles(lambda x: (x @ keys.mT).logsumexp(1), rows, width=num, tile=num).sum().backward()
    assert memory.numbers == num * num


def test_bad_tile() -> None:
    with pytest.raises(ValueError, match="tile: at least 1 expected, got 0"):
        by_row_tiles(lambda x: x.sum(1), draw(3, 2), width=2, tile=0)
