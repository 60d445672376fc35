"""Steps of the gradient against closed forms, and what they must leave alone."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.objectives import InfoNCE, contrast
from nearfar.objectives.adversarial import Adversarial, adversarial_negative, distant_positive
from nearfar.testing import LargestTensor, draw


def degrees(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x, y).clamp(-1, 1).acos().rad2deg()


def test_linear_loss_moves_along_its_slope() -> None:
    z, slope = draw(5, 3), draw(3, seed=1)
    step = 0.2 * z.norm(dim=1, keepdim=True) * slope / slope.norm()
    for scale in (1.0, 1e-3, 1e6):  # only the direction of the gradient counts
        found = adversarial_negative(z, partial(torch.mv, vec=scale * slope), 0.2)
        torch.testing.assert_close(found, z + step)
    out = z + 2 * step
    back = 0.2 * out.norm(dim=1, keepdim=True) * slope / slope.norm()
    torch.testing.assert_close(distant_positive(z, lambda z: (z @ slope).sum(), 0.2), out - back)


def test_quadratic_loss_stretches_and_flat_loss_stays() -> None:
    z = draw(5, 3)
    torch.testing.assert_close(adversarial_negative(z, lambda z: z.square().sum(1), 0.5), 1.5 * z)
    torch.testing.assert_close(
        distant_positive(z, lambda z: z.square().sum(1), 0.5), z
    )  # 2 z, then half of it
    assert torch.equal(adversarial_negative(z, lambda z: 0 * z, 0.5), z)


@pytest.mark.parametrize("eps", [0.1, 0.5, 1.0])
def test_cosine_loss_turns_by_the_arc_tangent(eps: float) -> None:
    anchor, z = draw(6, 5), draw(6, 5, seed=1)

    def distance(z: Tensor) -> Tensor:
        return -F.cosine_similarity(anchor, z)

    before = degrees(anchor, z)
    arc, wide = math.degrees(math.atan(eps)), math.degrees(math.atan(2 * eps))
    assert (before + wide < 180).all()
    torch.testing.assert_close(degrees(anchor, adversarial_negative(z, distance, eps)), before + arc)
    positive = distant_positive(z, distance, eps)
    torch.testing.assert_close(degrees(anchor, positive), before + wide - arc)
    assert wide - arc < arc  # the positive stays on this side of the negative


def test_the_loss_rises_to_first_order() -> None:
    weight = draw(4, 3)
    z = draw(6, 4, seed=1)

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(z @ weight, torch.arange(6) % 3, reduction="none")

    rise = (loss(adversarial_negative(z, loss, 1e-4)) - loss(z)) / (1e-4 * z.norm(dim=1))
    jacobian = torch.autograd.functional.jacobian(loss, z)[torch.arange(6), torch.arange(6)]
    torch.testing.assert_close(rise, jacobian.norm(dim=1), rtol=1e-3, atol=0)


def test_nothing_else_is_touched() -> None:
    layer = nn.Linear(4, 2).double()
    z = draw(3, 4).requires_grad_()
    with torch.no_grad():
        for made in (adversarial_negative, distant_positive):
            found = made(z, lambda z: layer(z).square().sum(1), 0.3)
            assert not found.requires_grad
        assert not torch.is_grad_enabled()
    assert z.grad is None
    assert layer.weight.grad is None
    assert not torch.equal(found, z)


def test_module_is_the_loop() -> None:
    first = draw(5, 4)
    second = first + draw(
        5, 4, seed=1
    )  # less than 135 degrees apart: twice the step does not pass the antipode
    q, k = F.normalize(first), F.normalize(second)
    tangent = F.normalize((q * k).sum(1, keepdim=True) * k - q)  # away from the anchor, along the sphere
    negative = F.normalize(k + 0.5 * tangent)
    wide, arc = math.atan(1.0), math.atan(0.5)
    positive = math.cos(wide - arc) * k + math.sin(wide - arc) * tangent
    loss = 0.0
    for i in range(5):
        own = math.exp(float(q[i] @ positive[i]) / 0.2)
        others = [math.exp(float(q[i] @ x) / 0.2) for x in (*positive, negative[i])]
        loss -= math.log(own / math.fsum(others)) / 5
    found = Adversarial(0.2, weight=0.7)(first, second).item()
    assert found == pytest.approx(InfoNCE(0.2)(first, second).item() + 0.7 * loss, rel=1e-9)
    assert torch.equal(Adversarial(weight=0)(first, second), InfoNCE()(first, second))


def test_small_steps_count_the_positive_twice() -> None:
    first, second = draw(5, 4), draw(5, 4, seed=1)
    twice = contrast(first, second, extra_negatives=second[:, None])
    found = Adversarial(eps=1e-9)(first, second) - InfoNCE()(first, second)
    torch.testing.assert_close(found, twice)


def test_only_the_plain_term_trains_the_second_view() -> None:
    first, second = (x.requires_grad_() for x in (draw(5, 4), draw(5, 4, seed=1)))
    whole = torch.autograd.grad(Adversarial()(first, second), (first, second))
    plain = torch.autograd.grad(InfoNCE()(first, second), (first, second))
    assert torch.equal(whole[1], plain[1])
    assert not torch.allclose(whole[0], plain[0])
    fixed = second.detach()
    assert torch.autograd.gradcheck(lambda first: _hard_with_fixed_keys(first, draw(5, 4), fixed), (first,))


def _hard_with_fixed_keys(first: Tensor, start: Tensor, second: Tensor) -> Tensor:
    """The second term as a function of the anchors, the keys those of the starting point."""

    def distance(z: Tensor) -> Tensor:
        return -F.cosine_similarity(start, z)

    negative = adversarial_negative(second, distance, 0.5)
    return contrast(first, distant_positive(second, distance, 0.5), extra_negatives=negative[:, None])


def test_half_precision_and_long_or_zero_rows() -> None:
    first, second = (x.bfloat16() for x in (draw(6, 4), draw(6, 4, seed=1)))
    found = Adversarial()(first, second)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Adversarial()(first.float(), second.float()))
    assert adversarial_negative(first, lambda z: z.sum(1), 0.1).dtype == torch.bfloat16
    long = Adversarial()(1e8 * first.float(), 1e8 * second.float())
    torch.testing.assert_close(long, Adversarial()(first.float(), second.float()), rtol=1e-4, atol=0)
    zero = torch.zeros(3, 4, requires_grad=True)
    Adversarial()(zero, torch.ones(3, 4)).backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_no_table_of_all_pairs() -> None:
    first, second = (draw(4096, 8, seed=i).float().requires_grad_() for i in range(2))
    with LargestTensor() as largest:
        Adversarial()(first, second).backward()
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    z = draw(3, 2)
    for eps in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="eps"):
            adversarial_negative(z, lambda z: z.sum(), eps)
        with pytest.raises(ValueError, match="eps"):
            Adversarial(eps=eps)
    with pytest.raises(ValueError, match="z: floating point"):
        distant_positive(z.long(), lambda z: z.sum(), 0.1)
    with pytest.raises(ValueError, match="loss_fn: .*constant"):
        distant_positive(z, lambda z: z.detach().sum(), 0.1)
    with pytest.raises(ValueError, match="weight"):
        Adversarial(weight=-1.0)
    with pytest.raises(ValueError, match="second: shape"):
        Adversarial()(z, z[:2])
