"""The contrast of every step at all scales against the loops that define it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nearfar.timeseries.autotcl.hierarchical_contrast import hierarchical_contrast


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pick(rows: list[tuple[Tensor, Tensor]], temperature: float) -> list[float]:
    """Of every row of both views, minus the log-probability of its other view among all others."""
    count = len(rows)
    both = [a for a, _ in rows] + [b for _, b in rows]
    losses = []
    for i, row in enumerate(both):
        scores = [float(row @ other) / temperature for other in both]
        total = math.log(sum(math.exp(s) for j, s in enumerate(scores) if j != i))
        losses.append(total - scores[(i + count) % (2 * count)])
    return losses


def loop(first: Tensor, second: Tensor, valid: Tensor, temperature: float, among_series: float) -> float:
    scales = []
    while True:
        count, steps = valid.shape
        here = [[(first[i, t], second[i, t]) for i in range(count) if valid[i, t]] for t in range(steps)]
        there = [[(first[i, t], second[i, t]) for t in range(steps) if valid[i, t]] for i in range(count)]
        series = [loss for rows in here for loss in pick(rows, temperature)]
        scale = among_series * sum(series) / max(len(series), 1)
        if steps > 1:
            times = [loss for rows in there for loss in pick(rows, temperature)]
            scale += (1 - among_series) * sum(times) / max(len(times), 1)
        scales.append(scale)
        if steps == 1:
            return sum(scales) / len(scales)
        first, second, valid = pooled(first, valid), pooled(second, valid), kept(valid)


def pooled(z: Tensor, valid: Tensor) -> Tensor:
    found = z.new_zeros(z.shape[0], z.shape[1] // 2, z.shape[2])
    for i in range(found.shape[0]):
        for t in range(found.shape[1]):
            steps = [z[i, s] for s in (2 * t, 2 * t + 1) if valid[i, s]]
            if steps:
                found[i, t] = torch.stack(steps).amax(0)
    return found


def kept(valid: Tensor) -> Tensor:
    return torch.stack([valid[:, 2 * t] | valid[:, 2 * t + 1] for t in range(valid.shape[1] // 2)], 1)


@pytest.mark.parametrize(("count", "steps"), [(3, 8), (2, 7), (4, 1), (1, 5), (1, 1), (2, 2)])
@pytest.mark.parametrize("missing", [False, True])
def test_it_is_the_loop(count: int, steps: int, missing: bool) -> None:
    first, second = normal(count, steps, 4), normal(count, steps, 4, seed=1)
    valid = torch.ones(count, steps, dtype=torch.bool)
    if missing:
        valid[0, steps // 2 :] = False
        valid[-1, 0] = False
    found = hierarchical_contrast(first, second, valid, temperature=0.7, among_series=0.3)
    assert found.item() == pytest.approx(loop(first, second, valid, 0.7, 0.3), rel=1e-9, abs=1e-12)
    if not missing:
        whole = hierarchical_contrast(first, second, temperature=0.7, among_series=0.3)
        assert torch.equal(whole, found)


def test_what_is_missing_takes_no_part() -> None:
    first, second = normal(3, 9, 4).requires_grad_(), normal(3, 9, 4, seed=1).requires_grad_()
    valid = torch.rand(3, 9, generator=torch.Generator().manual_seed(2)) > 0.3
    valid[1] = False
    hierarchical_contrast(first, second, valid).backward()
    for z in (first, second):
        assert z.grad is not None
        assert z.grad.isfinite().all()
        assert (z.grad[~valid] == 0).all()
        assert (z.grad[valid] != 0).any()
    other = torch.where(valid[..., None], first.detach(), 1e6)
    assert torch.equal(
        hierarchical_contrast(other, second, valid), hierarchical_contrast(first, second, valid)
    )


def test_its_gradient_is_that_of_finite_differences() -> None:
    first, second = normal(2, 5, 3).requires_grad_(), normal(2, 5, 3, seed=1).requires_grad_()
    valid = torch.ones(2, 5, dtype=torch.bool)
    valid[0, 3] = False
    assert torch.autograd.gradcheck(lambda a, b: hierarchical_contrast(a, b, valid), (first, second))


def test_nothing_to_pick_among_is_zero() -> None:
    z = normal(2, 4, 3).requires_grad_()
    loss = hierarchical_contrast(z, z, torch.zeros(2, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_views_and_series_may_be_exchanged() -> None:
    first, second = normal(4, 6, 3), normal(4, 6, 3, seed=1)
    loss = hierarchical_contrast(first, second)
    assert hierarchical_contrast(second, first).item() == pytest.approx(loss.item(), rel=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    assert hierarchical_contrast(first[order], second[order]).item() == pytest.approx(loss.item(), rel=1e-12)


def test_shapes_are_compared() -> None:
    with pytest.raises(ValueError, match=r"second: shape \(2, 4, 3\)"):
        hierarchical_contrast(torch.zeros(2, 4, 3), torch.zeros(2, 5, 3))
