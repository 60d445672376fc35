"""Every term against the loop that is its definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.timeseries.autotcl.gate import HardConcrete
from nearfar.timeseries.autotcl.keep_rate import KeepRate
from nearfar.timeseries.autotcl.local_contrast import local_contrast
from nearfar.timeseries.autotcl.relevance import price
from nearfar.timeseries.autotcl.triplet import draw_triplets, released_triplet_loss, triplet_loss


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def test_price_counts_kept_steps() -> None:
    gate, logits = HardConcrete(), normal(3, 10, 1)
    kept = torch.sigmoid(logits - gate.temperature * math.log(0.1 / 1.1))
    assert price(logits, gate).item() == pytest.approx(float(kept.mean()))
    assert price(logits, gate, "l0_sum").item() == pytest.approx(10 * float(kept.mean()))
    pi = torch.sigmoid(normal(3, 10, 4))
    expected = max(0.0, float(pi.sum(2).mean()) - 0.4)
    assert price(torch.logit(pi), gate, "hinge").item() == pytest.approx(expected)


def test_triplets_are_near_and_far() -> None:
    for steps in (3, 4, 5, 7, 32, 257):
        a, p, n = draw_triplets(4000, steps, rng())
        assert ((a - p).abs() == 1).all()
        assert ((a - n).abs() >= steps / 4).all()
        for place in (a, p, n):
            assert place.min() >= 0
            assert place.max() < steps
        assert len(n.unique()) == steps


def test_triplet_loss_is_its_definition_and_pulls_the_right_way() -> None:
    pi = torch.rand(5, 40, 1, generator=rng(), dtype=torch.float64).requires_grad_()
    a, p, n = draw_triplets(5, 40, rng(3))
    drawn = zip(pi.detach()[..., 0].tolist(), a.tolist(), p.tolist(), n.tolist(), strict=True)
    loop = [abs(row[i] - row[j]) - abs(row[i] - row[k]) for row, i, j, k in drawn]
    loss = triplet_loss(pi, rng(3))
    assert loss.item() == pytest.approx(sum(loop) / 5)
    loss.backward()
    with torch.no_grad():
        moved = pi - 1e-3 * pi.grad  # type: ignore[operator]
    at = torch.arange(5)
    before, after = pi.detach()[..., 0], moved[..., 0]
    assert ((after[at, a] - after[at, p]).abs() < (before[at, a] - before[at, p]).abs()).all()
    assert ((after[at, a] - after[at, n]).abs() > (before[at, a] - before[at, n]).abs()).all()
    assert triplet_loss(pi[:, :2], rng()).item() == 0


def test_released_triplet_loss_is_its_loop() -> None:
    pi = torch.rand(4, 12, 2, generator=rng(), dtype=torch.float64)
    draw = rng(5)
    first, second = (torch.randint(1, 10, (4,), generator=draw) for _ in range(2))
    total = 0.0
    for row in pi:
        for a, n in zip(first.tolist(), second.tolist(), strict=True):
            for channel in range(2):
                here = float(row[a, channel])
                apart = abs(here - float(row[n, channel]))
                near = abs(here - float(row[a - 1, channel])) + abs(here - float(row[a + 1, channel]))
                total += near + (apart if n > a + 1 else 1 - apart)
    assert released_triplet_loss(pi, rng(5)).item() == pytest.approx(total / (4 * 4 * 2))


def local_loop(z: Tensor, start: int) -> float:
    size, losses = z.shape[1] // 16, []
    for series in z:
        steps = [row / row.norm() for row in series]
        segments = [
            torch.stack(steps[start + s * size : start + (s + 1) * size]).max(0).values for s in range(16)
        ]
        for i in range(16):
            positive = i + 1 if i < 15 else i - 1
            negatives = [j for j in range(16) if abs(i - j) >= 2 and (i, j) not in ((0, 2), (15, 13))]
            assert len(negatives) == 13
            scores = [math.exp(float(segments[i] @ segments[j])) for j in (positive, *negatives)]
            losses.append(-math.log(scores[0] / sum(scores)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("steps", [16, 37, 70])
def test_local_contrast_is_its_loop(steps: int) -> None:
    z = normal(3, steps, 5)
    start = int(torch.randint(steps - 16 * (steps // 16) + 1, (1,), generator=rng(2)))
    assert local_contrast(z, rng(2)).item() == pytest.approx(local_loop(z, start), rel=1e-9)


def test_local_contrast_of_short_series_is_zero() -> None:
    z = normal(2, 15, 3).requires_grad_()
    loss = local_contrast(z, rng())
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_global_contrast_has_its_closed_forms() -> None:
    z = normal(8, 5)
    order = torch.randperm(8, generator=rng())
    assert contrast(z, z + 0.1, temperature=0.2).item() == pytest.approx(
        contrast(z[order], (z + 0.1)[order], temperature=0.2).item()
    )
    assert contrast(z[:1], z[1:2], temperature=0.2).item() == pytest.approx(0, abs=1e-12)
    eye = torch.eye(6, dtype=torch.float64)
    assert contrast(eye, eye, temperature=0.5).item() == pytest.approx(math.log(1 + 5 * math.exp(-2)))


def test_keep_rate_ends_at_its_target() -> None:
    rate = KeepRate(0.05, target=0.7, rate=0.5)
    for _ in range(200):  # whatever the price is, 1 / (1 + beta) is kept
        rate.update(1 / (1 + rate.beta))
    assert (1 / (1 + rate.beta)).item() == pytest.approx(0.7, abs=1e-3)
    for _ in range(200):
        rate.update(torch.tensor(1.0))
    assert rate.beta.item() == pytest.approx(10)
    fixed = KeepRate(0.05, target=None)
    fixed.update(torch.tensor(1.0))
    assert fixed.beta.item() == pytest.approx(0.05)
    assert KeepRate(0.0, target=None).beta.item() == 0
