"""Exact neighbours against loops in float64, also where the product form of a distance has no digits left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.neighbors import exact, nearest

RNG = torch.Generator().manual_seed(0)


def rows(n: int, d: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, d, generator=RNG, dtype=torch.float64).to(dtype)


def by_loops(queries: Tensor, reference: Tensor, k: int, own: bool, metric: str) -> tuple[Tensor, Tensor]:
    """Sorted by value, equals by row; float64, one query at a time."""
    values, places = [], []
    for i, query in enumerate(queries.double()):
        if metric == "euclidean":
            score = (reference.double() - query).square().sum(1).sqrt()
        else:
            length = (query.norm() * reference.double().norm(dim=1)).clamp(min=1e-300)
            score = -(reference.double() @ query) / length
        if own:
            score[i] = torch.inf
        order = score.argsort(stable=True)[:k]
        values.append(score[order].abs() if metric == "euclidean" else -score[order])
        places.append(order)
    return torch.stack(values), torch.stack(places)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_against_loops(
    metric: exact.Metric, dtype: torch.dtype, chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tiles that do not divide the rows, so that their seams are tested as well.
    monkeypatch.setattr(exact, "TILE", 13)
    monkeypatch.setattr(exact, "DIFFERENCES", 100)
    x, other = rows(60, 9, dtype), rows(23, 9, dtype)
    for queries, reference, own in ((x, x, True), (x, x, False), (other, x, False), (x, other, False)):
        for k in (1, 4, len(reference) - own):
            expected, places = by_loops(queries, reference, k, own, metric)
            given = None if own else reference
            value, index = nearest(queries, k, given, metric=metric, chunk=chunk)
            assert value.dtype == dtype
            assert torch.equal(index, places)
            assert torch.allclose(value.double(), expected, atol=1e-6 if dtype == torch.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_near_rows_far_from_the_mean(dtype: torch.dtype) -> None:
    """Three tight clusters: differences within them are far below the rounding of squared lengths."""
    spread = 1e-4 if dtype == torch.float32 else 1e-9
    x = (
        rows(3, 20, torch.float64).repeat_interleave(50, 0) * 100 + spread * rows(150, 20, torch.float64)
    ).to(dtype)
    expected, places = by_loops(x, x, 5, True, "euclidean")
    value, index = nearest(x, 5)
    assert torch.allclose(value.double(), expected, rtol=1e-5)
    equal_by_chance = (value.double() - expected).abs() <= 1e-6 * expected
    assert ((index == places) | equal_by_chance).all()
    if dtype == torch.float64:
        assert torch.equal(index, places)


def test_what_is_unsure_is_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    slow = exact._by_differences

    def counted(rows: Tensor, among: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
        calls.append(len(rows))
        return slow(rows, among, k, own)

    monkeypatch.setattr(exact, "_by_differences", counted)
    nearest(rows(300, 4), 3)
    nearest(rows(300, 4, torch.float64), 3)
    assert calls == []
    # Corners of a cube: each has twelve others at distance 1, one more than there are candidates for three.
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 12)
    value, index = nearest(corners, 3)
    assert calls == [4096]
    assert torch.equal(value, torch.ones(4096, 3))
    assert torch.equal((corners[index] - corners[:, None]).abs().sum(2), torch.ones(4096, 3))


def test_copies_are_at_distance_zero() -> None:
    x = torch.ones(40, 3).cumsum(1).repeat(2, 1)
    value, index = nearest(x, 30)
    assert torch.equal(value, torch.zeros(80, 30))
    assert all(i not in found for i, found in enumerate(index.tolist()))
    assert all(len(set(found)) == 30 for found in index.tolist())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_tiny_and_huge_numbers(metric: exact.Metric, size: float) -> None:
    x = rows(30, 4)
    value, index = nearest(x * size, 3, metric=metric)
    plain, places = nearest(x, 3, metric=metric)
    assert torch.equal(index, places)
    scale = size if metric == "euclidean" else 1
    assert torch.allclose(value.double(), plain.double() * scale, rtol=1e-5)


def test_a_row_of_zeros_is_alike_to_nothing() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
    value, index = nearest(x, 3, metric="cosine")
    assert torch.equal(value[0], torch.zeros(3))
    assert index[0].tolist() == [1, 2, 3]
    assert (index[1].tolist(), value[1].tolist()) == ([0, 3, 2], [0, 0, -1])


def test_the_order_of_rows_does_not_matter() -> None:
    x = rows(50, 6)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    value, index = nearest(x, 4)
    turned, places = nearest(x[order], 4)
    assert torch.allclose(turned, value[order])
    assert torch.equal(order[places], index[order])


def test_other_types_and_no_rows() -> None:
    x = rows(12, 3)
    index = nearest(x.numpy(), 2)[1]
    assert torch.equal(index, nearest(x, 2)[1])
    assert nearest((x * 9).int().numpy(), 2)[0].dtype == torch.float32
    assert nearest(x.half(), 2)[0].dtype == torch.float32
    assert nearest(x.numpy()[::-1].astype(">f8"), 2)[0].dtype == torch.float64
    for metric in ("euclidean", "cosine"):
        empty, places = nearest(x[:0], 2, x, metric=metric)
        assert empty.shape == places.shape == (0, 2)
    with_gradient = x.clone().requires_grad_()
    assert not nearest(with_gradient, 2)[0].requires_grad
    assert torch.equal(nearest(x, 2, x.clone(), exclude_self=True)[1], index)


def test_bad_input() -> None:
    x = rows(5, 3)
    for k, given in ((0, None), (5, None), (6, x)):
        rest = 5 if given is not None else 4
        with pytest.raises(
            ConfigError, match=f"k: from 1 to the {rest} rows to choose from expected, got {k}"
        ):
            nearest(x, k, given)
    with pytest.raises(ConfigError, match="k: from 1 to the 0 rows"):
        nearest(x[:0], 1)
    with pytest.raises(ConfigError, match="chunk: at least 1 row at a time expected, got 0"):
        nearest(x, 1, chunk=0)
    with pytest.raises(ValueError, match="metric: 'euclidean' or 'cosine' expected, got 'l1'"):
        nearest(x, 1, metric="l1")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="reference: torch.float32 with 3 columns on cpu expected"):
        nearest(x, 1, x[:, :2])
    with pytest.raises(DataError, match="needs as many reference rows as queries, got 5 and 2"):
        nearest(x[:2], 1, x, exclude_self=True)
    broken = x.clone()
    broken[3, 1] = torch.nan
    broken[4, 1] = torch.inf
    with pytest.raises(DataError, match=r"queries: row 3 is not finite \(2 such rows\)"):
        nearest(broken, 1)
    with pytest.raises(DataError, match="reference: row 3 is not finite"):
        nearest(x, 1, broken)
    for wrong in (x[0], x[:, :0], torch.zeros(2, 2, dtype=torch.complex64)):
        with pytest.raises(DataError, match="queries: a matrix"):
            nearest(wrong, 1)
    with pytest.raises(DataError, match="queries: numbers of shape"):
        nearest(np.array([["a"], ["b"]]), 1)
    # Large, but finite: the sum overflows, and no row is to blame.
    assert torch.equal(nearest(torch.full((4, 2), 3e38), 1)[0], torch.zeros(4, 1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_gpu_finds_the_same(metric: exact.Metric) -> None:
    x = rows(3000, 40)
    value, index = nearest(x.cuda(), 10, metric=metric)
    expected, places = nearest(x, 10, metric=metric)
    assert torch.allclose(value.cpu(), expected, atol=1e-5)
    assert (index.cpu() == places).float().mean() > 0.9999
