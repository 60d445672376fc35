"""Interpolation against a loop, at whole numbers, beside NaN, and its derivatives."""

from __future__ import annotations

import math

import torch

from nearfar.augment.interpolation import interpolate


def test_equals_the_loop(rng: torch.Generator) -> None:
    x = torch.randn(3, 6, 2, generator=rng, dtype=torch.float64)
    index = torch.rand(3, 9, generator=rng, dtype=torch.float64) * 5
    got = interpolate(x, index)
    for b, row in enumerate(index.tolist()):
        for s, u in enumerate(row):
            low, high = math.floor(u), math.ceil(u)
            expected = x[b, low] + (u - low) * (x[b, high] - x[b, low])
            torch.testing.assert_close(got[b, s], expected, rtol=0, atol=1e-14)


def test_whole_numbers_are_exact_and_see_no_neighbour(rng: torch.Generator) -> None:
    x = torch.randn(2, 7, 3, generator=rng)
    order = torch.stack([torch.randperm(7, generator=rng) for _ in range(2)])
    expected = torch.stack([row[places] for row, places in zip(x, order, strict=True)])
    assert torch.equal(interpolate(x, order), expected)
    assert torch.equal(interpolate(x, order.float()), expected)
    holed = torch.tensor([[[1.0], [torch.nan], [3.0]]])
    assert interpolate(holed, torch.tensor([[0.0, 2.0]])).flatten().tolist() == [1.0, 3.0]


def test_ends_are_read_beyond_the_ends() -> None:
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    places = torch.tensor([[-3.0, 7.0], [-0.5, 1.5]])
    assert interpolate(x, places)[..., 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert interpolate(x, places.long() * 5)[..., 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_gradients(rng: torch.Generator) -> None:
    x = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    index = torch.rand(2, 4, generator=rng, dtype=torch.float64) * 3 + 0.5
    assert torch.autograd.gradcheck(interpolate, (x, index.requires_grad_()))
