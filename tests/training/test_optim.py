"""Optimisers from settings, and whose learning rate follows which schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.config import OptimConfig
from nearfar.training.optim import PEAK_LR, build_optimizer, set_learning_rates


def trained(config: OptimConfig, steps: int = 3) -> torch.Tensor:
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = build_optimizer([weight], config)
    for _ in range(steps):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    return weight.detach()


def test_sgd_with_momentum_by_hand() -> None:
    """v <- m v + g + d w, w <- w - r v (Sutskever et al., 2013, as PyTorch has it)."""
    rate, momentum, decay = 0.1, 0.7, 0.01
    weight, speed = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _ in range(3):
        speed = momentum * speed + 2 * weight + decay * weight
        weight = weight - rate * speed
    config = OptimConfig(name="sgd", lr=rate, momentum=momentum, weight_decay=decay)
    assert torch.allclose(trained(config), weight, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", "Adam"), ("adamw", "AdamW"), ("sgd", "SGD"), ("lion", "Lion")]
)
def test_every_name_is_its_class(name: str, kind: str) -> None:
    made = build_optimizer([nn.Parameter(torch.zeros(1))], OptimConfig.model_validate({"name": name}))
    assert type(made).__name__ == kind


def test_an_optimiser_with_its_own_schedule_keeps_to_it() -> None:
    config = OptimConfig(schedule="cosine")
    optimizers = {
        name: build_optimizer([nn.Parameter(torch.zeros(1))], config, lr=2.0) for name in ("common", "own")
    }
    optimizers["own"].add_param_group({"params": [nn.Parameter(torch.zeros(1))], PEAK_LR: 6.0, "lr": 6.0})
    asked: list[tuple[str, int]] = []

    def own(name: str, step: int) -> float | None:
        asked.append((name, step))
        return 0.5 if name == "own" else None

    set_learning_rates(optimizers, config, 75, 100, own)
    assert optimizers["common"].param_groups[0]["lr"] == pytest.approx(2 * (1 - 0.5**0.5) / 2)
    assert [group["lr"] for group in optimizers["own"].param_groups] == [1.0, 3.0]
    assert asked == [("common", 75), ("own", 75)]
