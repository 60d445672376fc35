"""Shuffled group whitening: white groups, eigendecomposition as judge, running statistics, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.objectives.whitening import ShuffledGroupWhitening, inverse_root, shuffled_group_whitening


def draw(num: int = 40, dim: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """Correlated features of different sizes, not centred."""
    rng = torch.Generator().manual_seed(num)
    mix = torch.randn(dim, dim, generator=rng, dtype=torch.float64) + torch.eye(dim, dtype=torch.float64)
    x = torch.randn(num, dim, generator=rng, dtype=torch.float64) @ mix + 3
    return x.to(dtype).requires_grad_()


def shuffled(dim: int = 6, seed: int = 0) -> Tensor:
    return torch.randperm(dim, generator=torch.Generator().manual_seed(seed))


def slow(x: Tensor, groups: int, permutation: Tensor, eps: float) -> np.ndarray:
    """Group by group with NumPy's eigenvectors."""
    given = x.detach().numpy()
    result = np.empty_like(given)
    for columns in np.split(permutation.numpy(), groups):
        part = given[:, columns] - given[:, columns].mean(0)
        values, vectors = np.linalg.eigh(part.T @ part / len(part))
        result[:, columns] = part @ (vectors / np.sqrt(values + eps)) @ vectors.T
    return result


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_equals_the_definition(groups: int, eps: float) -> None:
    x = draw()
    found = shuffled_group_whitening(x, groups, shuffled(), eps=eps).detach().numpy()
    np.testing.assert_allclose(found, slow(x, groups, shuffled(), eps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_are_white(groups: int) -> None:
    x = draw()
    y = shuffled_group_whitening(x, groups, shuffled(), eps=1e-12).detach()[:, shuffled()]
    assert y.mean(0).abs().max() < 1e-12
    for part in y.split(6 // groups, 1):
        identity = torch.eye(6 // groups, dtype=torch.float64)
        torch.testing.assert_close(part.mT @ part / len(part), identity, rtol=0, atol=1e-8)
    single = shuffled_group_whitening(draw(dtype=torch.float32), groups, shuffled())[:, shuffled()]
    for part in single.detach().split(6 // groups, 1):
        torch.testing.assert_close(part.mT @ part / len(part), torch.eye(6 // groups), rtol=0, atol=1e-3)


def test_the_partition_matters_only_in_between() -> None:
    x = draw().detach()
    for groups in (1, 2, 3, 6):
        one, other = (shuffled_group_whitening(x, groups, shuffled(seed=seed)) for seed in (0, 1))
        assert torch.allclose(one, other, atol=1e-9) == (groups in (1, 6))
    standard = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(shuffled_group_whitening(x, 6, shuffled()), standard)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 1e-8, 0.0])
def test_inverse_root_of_bad_condition(smallest: float, dtype: torch.dtype) -> None:
    rng = torch.Generator().manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(5, 5, generator=rng, dtype=torch.float64))[0]
    values = torch.tensor([3.0, 2.0, 1.0, 1.0, smallest], dtype=torch.float64)
    found = inverse_root(((vectors * values) @ vectors.mT).to(dtype), eps=1e-5).double()
    expected = (vectors / (values + 1e-5).sqrt()) @ vectors.mT
    # In float32 the smallest eigenvalue itself is only known to 3e-7, of 1e-5.
    relative = (found - expected).norm() / expected.norm()
    assert relative < (1e-9 if dtype == torch.float64 else 0.05)
    assert relative < 1e-4 or smallest < 1e-3


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_derivatives(groups: int, detach: bool) -> None:
    x = draw(7, 4)
    permutation = shuffled(4)
    if not detach:
        assert torch.autograd.gradcheck(lambda x: shuffled_group_whitening(x, groups, permutation), x)
        return
    found = shuffled_group_whitening(x, groups, permutation, detach=True)
    weight = torch.arange(28.0, dtype=torch.float64).reshape(7, 4).sin()
    (grad,) = torch.autograd.grad((weight * found).sum(), x)
    # A fixed linear map: what it does to x it does to the gradient, transposed.
    centred = weight[:, permutation] - weight[:, permutation].mean(0)
    given = (x - x.mean(0)).detach()[:, permutation].split(4 // groups, 1)
    roots = [inverse_root(part.mT @ part / 7) for part in given]
    expected = torch.cat([w @ r for w, r in zip(centred.split(4 // groups, 1), roots, strict=True)], 1)
    torch.testing.assert_close(grad[:, permutation], expected)


def test_equal_eigenvalues_have_a_gradient() -> None:
    """Where one through eigenvectors divides by zero."""
    x = torch.cat([torch.eye(4), -torch.eye(4)]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: shuffled_group_whitening(x, 1, torch.arange(4)), x)
    covariance = (x.mT @ x / 8).detach().requires_grad_()
    values, vectors = torch.linalg.eigh(covariance)
    naive = ((vectors / values.sqrt()) @ vectors.mT)[0, 1]
    assert not torch.autograd.grad(naive, covariance)[0].isfinite().all()


@pytest.mark.parametrize("num", [2, 3, 6])
def test_too_few_rows_are_shrunk(num: int) -> None:
    x = draw(num)
    found = shuffled_group_whitening(x, 1, torch.arange(6))
    assert found.detach().abs().max() < 10  # 1 / sqrt(eps) is 316
    (grad,) = torch.autograd.grad(found.square().sum(), x)
    assert grad.isfinite().all()
    centred = (x - x.mean(0)).detach()
    covariance, share = centred.mT @ centred / num, 6 / (num + 6)
    shrunk = (1 - share) * covariance + share * covariance.trace() / 6 * torch.eye(6)
    torch.testing.assert_close(found.detach(), centred @ inverse_root(shrunk))


def test_constant_features_are_finite() -> None:
    x = torch.ones(9, 4, requires_grad=True)
    found = shuffled_group_whitening(x, 2, torch.arange(4))
    assert found.abs().max() == 0
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad.isfinite().all()


def test_evaluation_uses_running_statistics() -> None:
    x = draw(4000).detach()
    layer = ShuffledGroupWhitening(6, 2, momentum=0.5).double()
    rng = torch.Generator().manual_seed(0)
    torch.testing.assert_close(layer.eval()(x), x / math.sqrt(1 + 1e-5))  # nothing seen: mean 0, covariance 1
    layer.train()
    for _ in range(50):
        layer(x, rng)
        before = layer.running_mean.clone()
        layer(x, rng)
        assert torch.equal(layer.running_mean, before)  # forward changes nothing
        layer.after_step()
    layer.eval()
    torch.testing.assert_close(layer(x), shuffled_group_whitening(x, 2, torch.arange(6)))
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])  # a row does not see its batch
    again = ShuffledGroupWhitening(6, 2).double().eval()
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))


def test_running_statistics_move_by_momentum_and_only_once() -> None:
    layer = ShuffledGroupWhitening(6, 3, momentum=0.25).double()
    x = draw().detach()
    layer.after_step()
    assert torch.equal(layer.running_mean, torch.zeros(6).double())
    layer(x, torch.Generator())
    layer.after_step()
    layer.after_step()
    torch.testing.assert_close(layer.running_mean, 0.25 * x.mean(0))
    covariance = torch.cov(x.mT, correction=0)
    torch.testing.assert_close(layer.running_covariance, 0.25 * covariance + 0.75 * torch.eye(6).double())


def test_partitions_come_from_the_generator() -> None:
    x, layer = draw(), ShuffledGroupWhitening(6, 2)
    one, same = (layer(x, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, same)
    torch.testing.assert_close(one, shuffled_group_whitening(x, 2, shuffled(seed=4)))
    assert not torch.allclose(one, layer(x, torch.Generator().manual_seed(5)))


def test_half_precision_is_computed_in_single() -> None:
    x = draw(dtype=torch.bfloat16)
    found, wide = (shuffled_group_whitening(y, 2, shuffled()) for y in (x, x.float()))
    torch.testing.assert_close(found, wide, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("groups: a divisor of dim=6 expected, got 4", {"groups": 4}),
        ("groups: ", {"groups": 0}),
        ("eps: ", {"eps": 0.0}),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"groups": 2, "permutation": shuffled()} | options
    with pytest.raises(ValueError, match=message):
        shuffled_group_whitening(draw(), **arguments)
    with pytest.raises(ValueError, match=message):
        ShuffledGroupWhitening(**{"dim": 6, "groups": 2} | options)


def test_bad_tensors_are_named() -> None:
    with pytest.raises(ValueError, match="x: .* N at least 2"):
        shuffled_group_whitening(torch.ones(1, 6), 2, shuffled())
    for bad in (shuffled(5), shuffled().float(), torch.zeros(6, dtype=torch.int64)):
        with pytest.raises(ValueError, match="permutation: "):
            shuffled_group_whitening(draw(), 2, bad)
    with pytest.raises(ValueError, match="momentum: "):
        ShuffledGroupWhitening(6, 2, momentum=1.5)
    with pytest.raises(ValueError, match="x: 6 features"):
        ShuffledGroupWhitening(6, 2)(torch.ones(3, 4), torch.Generator())
    with pytest.raises(ValueError, match="rng: "):
        ShuffledGroupWhitening(6, 2)(draw())
