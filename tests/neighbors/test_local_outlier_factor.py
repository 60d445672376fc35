"""The local outlier factor against scikit-learn and a loop."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.neighbors import local_outlier_factor


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_sklearn(x: Tensor, k: int) -> Tensor:
    neighbors = pytest.importorskip("sklearn.neighbors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of copies
        fitted = neighbors.LocalOutlierFactor(n_neighbors=k).fit(x.numpy())
    return torch.from_numpy(-fitted.negative_outlier_factor_)


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("shape", [(200, 3), (90, 64), (21, 2)])
def test_against_scikit_learn(shape: tuple[int, int], k: int) -> None:
    x = rows(*shape)
    assert torch.allclose(local_outlier_factor(x, k), of_sklearn(x, k), atol=1e-9)
    single = local_outlier_factor(x.float(), k)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), of_sklearn(x, k), atol=1e-5)


def test_against_a_loop() -> None:
    x, k = rows(15, 2), 3
    distance = torch.cdist(x, x).fill_diagonal_(torch.inf)
    near = distance.argsort(1)[:, :k].tolist()
    reach = [distance[i, near[i][-1]].item() for i in range(15)]
    density = [1 / np.mean([max(reach[b], distance[a, b].item()) for b in near[a]]) for a in range(15)]
    expected = [np.mean([density[b] / density[a] for b in near[a]]) for a in range(15)]
    assert local_outlier_factor(x, k).tolist() == pytest.approx(expected, rel=1e-6)


def test_as_many_neighbours_as_there_are() -> None:
    x = rows(6, 3)
    assert torch.allclose(local_outlier_factor(x, 20), of_sklearn(x, 20), atol=1e-9)
    assert torch.equal(local_outlier_factor(x, 20), local_outlier_factor(x, 5))


def test_copies_have_a_density() -> None:
    """Five copies of each of 30 rows, so that distances within a neighbourhood are zero; and nothing but copies."""
    x = rows(30, 4).repeat(5, 1)
    assert torch.allclose(local_outlier_factor(x, 4), of_sklearn(x, 4), rtol=1e-5)
    assert torch.equal(local_outlier_factor(torch.ones(30, 2)), torch.ones(30))
    apart = torch.cat([torch.zeros(25, 2), torch.ones(1, 2)])
    found = local_outlier_factor(apart, 20)
    assert found.isfinite().all()
    assert found.argmax() == 25
    assert torch.allclose(found, of_sklearn(apart, 20).float(), rtol=1e-5)


def test_the_order_of_rows_does_not_matter() -> None:
    x = rows(80, 5)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(local_outlier_factor(x[order], 7), local_outlier_factor(x, 7)[order])


def test_scale_and_place_do_not_matter() -> None:
    x = rows(80, 5)
    assert torch.allclose(local_outlier_factor(x * 1e3 + 5), local_outlier_factor(x), rtol=1e-6)


def test_few_rows() -> None:
    assert local_outlier_factor(torch.zeros(0, 3)).shape == (0,)
    assert local_outlier_factor(torch.zeros(1, 3)).tolist() == [1.0]
    assert local_outlier_factor(torch.tensor([[0.0], [4.0]])).tolist() == [1.0, 1.0]


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="k: at least 1 neighbour expected, got 0"):
        local_outlier_factor(rows(5, 2), 0)
    x = rows(5, 2)
    x[2, 0] = torch.inf
    with pytest.raises(DataError, match="x: row 2 is not finite"):
        local_outlier_factor(x)
