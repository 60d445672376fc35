"""Lion against the algorithm in plain numbers; foreach against the loop, bit for bit; state and schedules."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from nearfar.config import OptimConfig
from nearfar.testing import draw
from nearfar.training.lion import Lion
from nearfar.training.optim import set_learning_rates


def weights(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    return [nn.Parameter(draw(*shape, dtype=dtype)) for shape in ((3, 2), (5,), (1,))]


def give_gradients(params: list[nn.Parameter], step: int, factor: float = 1.0) -> None:
    for i, p in enumerate(params):
        p.grad = factor * draw(*p.shape, seed=100 * step + i, dtype=p.dtype)


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_is_the_algorithm(foreach: bool, decay: float) -> None:
    params = weights()
    optimizer = Lion(params, lr=0.02, betas=(0.8, 0.95), weight_decay=decay, foreach=foreach)
    theta = [p.detach().flatten().tolist() for p in params]
    memory = [[0.0] * len(x) for x in theta]
    for step in range(12):
        give_gradients(params, step)
        for i, p in enumerate(params):
            assert p.grad is not None
            for j, g in enumerate(p.grad.flatten().tolist()):
                direction = sign(0.8 * memory[i][j] + 0.2 * g)
                theta[i][j] -= 0.02 * (direction + decay * theta[i][j])
                memory[i][j] = 0.95 * memory[i][j] + 0.05 * g
        optimizer.step()
    for p, expected, m in zip(params, theta, memory, strict=True):
        assert p.detach().flatten().tolist() == pytest.approx(expected, abs=1e-12)
        assert optimizer.state[p]["momentum"].flatten().tolist() == pytest.approx(m, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_foreach_is_the_loop_bit_for_bit(dtype: torch.dtype) -> None:
    both = weights(dtype), weights(dtype)
    for params, foreach in zip(both, (True, False), strict=True):
        optimizer = Lion(params, lr=0.013, weight_decay=0.1, foreach=foreach)
        for step in range(20):
            give_gradients(params, step)
            optimizer.step()
    for p, q in zip(*both, strict=True):
        assert torch.equal(p, q)
        assert not torch.equal(p, draw(*p.shape, dtype=dtype))


def test_every_weight_moves_by_the_learning_rate() -> None:
    params = weights()
    optimizer = Lion(params, lr=2**-6)
    for step in range(10):
        before = [p.detach().clone() for p in params]
        give_gradients(params, step)
        optimizer.step()
        for p, old in zip(params, before, strict=True):
            torch.testing.assert_close(
                (p - old).abs().detach(), torch.full_like(old, 2**-6), atol=1e-14, rtol=0
            )


@pytest.mark.parametrize("foreach", [True, False])
def test_a_weight_without_gradient_stays(foreach: bool) -> None:
    used, zero, unused = (nn.Parameter(torch.ones(2)) for _ in range(3))
    used.grad, zero.grad = torch.ones(2), torch.zeros(2)
    optimizer = Lion([used, zero, unused], lr=0.5, foreach=foreach)
    optimizer.step()
    assert used.tolist() == [0.5, 0.5]
    assert zero.tolist() == [1.0, 1.0]  # sign(0) = 0
    assert unused.tolist() == [1.0, 1.0]
    assert unused not in optimizer.state


@pytest.mark.parametrize("factor", [1e-6, 0.3, 1e6])
def test_scale_of_the_gradient_does_not_matter(factor: float) -> None:
    both = weights(), weights()
    for params, scale in zip(both, (1.0, factor), strict=True):
        optimizer = Lion(params, lr=0.01, weight_decay=0.2)
        for step in range(20):
            give_gradients(params, step, scale)
            optimizer.step()
    for p, q in zip(*both, strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("foreach", [True, False])
def test_factors_are_not_rounded_to_half_precision(foreach: bool) -> None:
    """As a product of foreach would on the CPU: 0.3 is 0.3008 in bfloat16."""
    (weight,) = params = [nn.Parameter(torch.ones(64, dtype=torch.bfloat16))]
    optimizer = Lion(params, betas=(0.9, 0.3), foreach=foreach)
    weight.grad = draw(64).bfloat16()
    optimizer.step()
    before = optimizer.state[weight]["momentum"].double()
    weight.grad.zero_()
    optimizer.step()
    assert torch.equal(optimizer.state[weight]["momentum"], (0.3 * before).bfloat16())


def test_momentum_of_a_constant_gradient_becomes_it() -> None:
    (weight,) = params = [nn.Parameter(draw(4))]
    optimizer, gradient = Lion(params), draw(4, seed=1)
    for step in range(1, 1001):
        weight.grad = gradient.clone()
        optimizer.step()
        if step in (1, 10):
            torch.testing.assert_close(optimizer.state[weight]["momentum"], (1 - 0.99**step) * gradient)
    torch.testing.assert_close(optimizer.state[weight]["momentum"], gradient, rtol=1e-4, atol=0)


def test_weight_decay_is_decoupled() -> None:
    """It shrinks weights by lr times decay whatever the gradient, and is not in the momentum."""
    (weight,) = params = [nn.Parameter(torch.full((3,), 4.0))]
    optimizer = Lion(params, lr=0.125, weight_decay=2.0)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert weight.tolist() == [3.0, 3.0, 3.0]
    assert optimizer.state[weight]["momentum"].tolist() == [0.0, 0.0, 0.0]


def test_state_round_trip() -> None:
    params = weights()
    optimizer = Lion(params, lr=0.01, weight_decay=0.1)
    for step in range(5):
        give_gradients(params, step)
        optimizer.step()
    again = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = Lion(again, lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(5, 10):
        for some, used in ((params, optimizer), (again, resumed)):
            give_gradients(some, step)
            used.step()
    for p, q in zip(params, again, strict=True):
        assert torch.equal(p, q)


def test_the_learning_rate_is_that_of_the_step() -> None:
    (weight,) = params = [nn.Parameter(torch.zeros(1))]
    config = OptimConfig(lr=0.5, schedule="cosine", warmup=0.0)
    optimizer = Lion(params, lr=config.lr)
    moved = []
    for step in range(4):
        set_learning_rates({"main": optimizer}, config, step, 4)
        weight.grad = torch.ones(1)
        before = weight.item()
        optimizer.step()
        moved.append(before - weight.item())
    assert moved == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])


def test_groups_have_settings_of_their_own() -> None:
    slow, fast = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups: list[dict[str, Any]] = [{"params": [slow]}, {"params": [fast], "lr": 0.5, "foreach": False}]
    optimizer = Lion(groups, lr=0.25)
    slow.grad = fast.grad = torch.ones(1)
    optimizer.step()
    assert [slow.item(), fast.item()] == [-0.25, -0.5]


def test_descends_a_loss_given_as_closure() -> None:
    weight = nn.Parameter(torch.tensor(3.0))
    optimizer = Lion([weight], lr=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (weight - 1).square()
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(400)]
    assert losses[0] == pytest.approx(4)
    assert min(losses) < 1e-4  # it comes close, and circles the minimum with its momentum


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("lr: .*0", {"lr": 0.0}),
        ("lr: .*inf", {"lr": math.inf}),
        ("weight_decay: .*-1", {"weight_decay": -1.0}),
        ("betas", {"betas": (1.0, 0.9)}),
        ("betas", {"betas": (0.9, -0.1)}),
        ("betas", {"betas": (0.9,)}),
    ],
)
def test_bad_settings(message: str, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=message):
        Lion(weights(), **settings)  # type: ignore[arg-type]


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="params: dense"):
        Lion(embedding.parameters()).step()
