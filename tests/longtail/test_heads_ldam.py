"""LDAM-DRW: closed forms, a slow loop, the learning rate, and when weights come on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.longtail.heads import (
    CosineLinear,
    effective_number_weights,
    fit_head,
    ldam_loss,
    ldam_margins,
)

COUNTS = [1000, 81, 16, 0, 1]


def test_margins() -> None:
    expected = [0.5 * n**-0.25 if n else 0.0 for n in COUNTS]  # the smallest has one item
    assert ldam_margins(COUNTS).tolist() == pytest.approx(expected)
    assert ldam_margins([5000, 50]).tolist() == pytest.approx([0.5 / 100**0.25, 0.5])
    assert ldam_margins([7, 7, 7], 0.3).tolist() == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9999])
def test_weights(beta: float) -> None:
    raw = [(1 - beta) / (1 - beta**n) if n else 0.0 for n in COUNTS]
    expected = [4 * weight / sum(raw) for weight in raw]
    found = effective_number_weights(COUNTS, beta)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert found.sum().item() == pytest.approx(4)


def test_weights_of_large_beta_are_inverse_sizes() -> None:
    found = effective_number_weights([1000, 10], 1 - 1e-12)
    assert (found[1] / found[0]).item() == pytest.approx(100)


def test_wrong_counts() -> None:
    for beta in (1.0, -0.1, math.nan):
        with pytest.raises(ConfigError, match="beta"):
            effective_number_weights([1], beta)
    for counts in ([], [0, 0], [1, -1], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(DataError, match="counts"):
            effective_number_weights(counts)
        with pytest.raises(DataError, match="counts"):
            ldam_margins(counts)


def by_loop(
    features: Tensor, weight: Tensor, target: list[int], counts: list[int], class_weight: list[float]
) -> float:
    total, mass = 0.0, 0.0
    for x, y in zip(features.tolist(), target, strict=True):
        logits = {}
        for k, w in enumerate(weight.tolist()):
            if not counts[k]:
                continue
            cosine = sum(a * b for a, b in zip(x, w, strict=True)) / (math.hypot(*x) * math.hypot(*w))
            margin = 0.5 * counts[k] ** -0.25 / max(n**-0.25 for n in counts if n)
            logits[k] = 30 * (cosine - margin * (k == y))
        loss = math.log(sum(math.exp(value) for value in logits.values())) - logits[y]
        total += class_weight[y] * loss
        mass += class_weight[y]
    return total / mass


@pytest.mark.parametrize("beta", [None, 0.99])
def test_loss_against_a_loop(beta: float | None) -> None:
    rng = torch.Generator().manual_seed(0)
    counts = [40, 9, 0, 2]
    features = torch.randn(12, 6, generator=rng, dtype=torch.float64)
    weight = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    target = [0, 1, 3] * 4
    weights = None if beta is None else effective_number_weights(counts, beta)
    head = CosineLinear(weight, torch.tensor([False, False, True, False]))
    found = ldam_loss(head(features), torch.tensor(target), ldam_margins(counts), weights)
    expected = by_loop(features, weight, target, counts, [1.0] * 4 if weights is None else weights.tolist())
    assert found.item() == pytest.approx(expected, abs=1e-12)
    found.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()
    assert (head.weight.grad[2] == 0).all()


def test_cosines_do_not_depend_on_lengths() -> None:
    rng = torch.Generator().manual_seed(1)
    x, weight = (torch.randn(n, 4, generator=rng, dtype=torch.float64) for n in (9, 3))
    expected = 30 * torch.cosine_similarity(x[:, None], weight[None], dim=2)
    assert torch.allclose(CosineLinear(weight)(x), expected)
    lengths = torch.linspace(0.1, 50, 9, dtype=torch.float64)[:, None]
    assert torch.allclose(CosineLinear(weight * 7)(x * lengths), expected)


def rows(sizes: tuple[int, ...] = (50, 12, 4)) -> tuple[Tensor, Tensor]:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    noise = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(2))
    return 2 * torch.eye(len(sizes), 6)[labels] + noise, labels


def learning_rates(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[float]:
    """What SGD really used, step by step."""
    used: list[float] = []
    step = torch.optim.SGD.step

    def recorded(self: torch.optim.SGD, *given: Any, **named: Any) -> Any:
        used.append(self.param_groups[0]["lr"])
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)
    fit_head(*rows(), 3, **settings)
    return used


def test_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = learning_rates(monkeypatch, kind="ldam_drw", batch_size=33)  # two steps a pass
    assert len(rates) == 400
    assert rates[:10] == pytest.approx([0.1 * (step + 1) / 10 for step in range(10)])
    assert rates[10:280] == pytest.approx([0.1] * 270)
    assert rates[280:360] == pytest.approx([0.01] * 80)
    assert rates[360:] == pytest.approx([0.001] * 40)


def test_learning_rate_of_crt(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = learning_rates(monkeypatch, kind="crt", batch_size=36)  # 72 draws
    assert len(rates) == 90
    assert rates[:10] == pytest.approx([0.1 * (step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 80)) for step in range(80)])
    assert min(rates) > 0


def test_weights_are_on_from_where_they_are_to_be() -> None:
    def trained(epochs: int = 4, **settings: Any) -> Tensor:
        head = fit_head(*rows(), 3, kind="ldam_drw", epochs=epochs, **settings)
        found: Tensor = head.state_dict()["weight"]
        return found

    never, always = trained(effective=0.0), trained()
    assert torch.allclose(trained(drw_from=1.0), never, atol=1e-6)
    halfway = trained(drw_from=0.5)
    assert not torch.allclose(always, never, atol=1e-3)
    assert not torch.allclose(halfway, never, atol=1e-3)
    assert not torch.allclose(halfway, always, atol=1e-3)
    assert torch.equal(trained(drw_from=0.0), always)
    # From the first pass on, and from the third of four, not from the one after.
    assert not torch.allclose(trained(epochs=1), trained(epochs=1, effective=0.0), atol=1e-3)
    assert torch.equal(trained(drw_from=0.4), halfway)


def test_the_margin_moves_the_border_away_from_the_rare_class() -> None:
    x, y = rows((200, 200, 6))
    without, wide = (fit_head(x, y, 3, kind="ldam_drw", margin=m, effective=0.0) for m in (0.0, 0.5))
    fresh = 2 * torch.eye(3, 6)[2] + torch.randn(2000, 6, generator=torch.Generator().manual_seed(3))
    found = [(head(fresh).argmax(1) == 2).float().mean().item() for head in (without, wide)]
    assert found[1] > found[0] + 0.05
