"""Paired logistic loss against a loop, its limits, its gradient by hand, and the draw of the other row."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from nearfar.objectives.paired_logistic import PairedLogistic, paired_logistic_loss
from nearfar.testing import draw


def test_is_the_loop() -> None:
    right, wrong, ref_right, ref_wrong = (draw(7, seed=i) for i in range(4))
    plain = [math.log1p(math.exp(w - r)) for r, w in zip(right.tolist(), wrong.tolist(), strict=True)]
    assert paired_logistic_loss(right, wrong).item() == pytest.approx(math.fsum(plain) / 7)
    rows = zip(*(x.tolist() for x in (right, wrong, ref_right, ref_wrong)), strict=True)
    offset = [math.log1p(math.exp(-0.3 * ((r - a) - (w - b)))) for r, w, a, b in rows]
    found = paired_logistic_loss(
        right, wrong, beta=0.3, reference_positive=ref_right, reference_negative=ref_wrong
    )
    assert found.item() == pytest.approx(math.fsum(offset) / 7)


def test_limits() -> None:
    right, wrong = draw(7), draw(7, seed=1)
    kept = paired_logistic_loss(right, wrong, reference_positive=right, reference_negative=wrong)
    assert kept.item() == pytest.approx(math.log(2))
    assert paired_logistic_loss(right + 900, wrong).item() == 0
    assert paired_logistic_loss(right - 900, wrong).item() == pytest.approx(
        900 + (wrong - right).mean().item()
    )


def test_gradients() -> None:
    right, wrong = (draw(7, seed=i).requires_grad_() for i in range(2))
    assert torch.autograd.gradcheck(lambda r, w: paired_logistic_loss(r, w, beta=2.0), (right, wrong))
    (grad,) = torch.autograd.grad(paired_logistic_loss(right, wrong, beta=2.0), right)
    torch.testing.assert_close(grad, -2 * torch.sigmoid(2 * (wrong - right)) / 7)
    reference = draw(7, seed=2).requires_grad_()
    paired_logistic_loss(right, wrong, reference_positive=reference, reference_negative=reference).backward()
    assert reference.grad is None


def test_the_other_row_is_never_the_row_itself() -> None:
    first, second = draw(5, 3), draw(5, 3, seed=1)
    cosines = F.cosine_similarity(first[:, None], second, dim=-1)
    row = torch.arange(5)
    possible = {}
    for shift in range(1, 5):
        others = cosines[row, (row + shift) % 5]
        possible[round(F.softplus(5 * (others - cosines.diagonal())).mean().item(), 9)] = shift
    rng = torch.Generator().manual_seed(0)
    seen = {possible[round(PairedLogistic()(first, second, rng).item(), 9)] for _ in range(60)}
    assert seen == {1, 2, 3, 4}


def test_same_generator_same_loss() -> None:
    first, second = draw(50, 4), draw(50, 4, seed=1)
    found = {PairedLogistic()(first, second, torch.Generator().manual_seed(3)).item() for _ in range(3)}
    assert len(found) == 1


def test_gradients_of_the_module() -> None:
    inputs = tuple(draw(4, 3, seed=i).requires_grad_() for i in range(2))
    loss = PairedLogistic(2.0)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, torch.Generator().manual_seed(1)), inputs)


def test_half_precision_is_computed_in_single() -> None:
    first, second = (draw(6, 4, seed=i).bfloat16() for i in range(2))
    found = PairedLogistic()(first, second, torch.Generator().manual_seed(0))
    assert found.dtype == torch.float32
    single = PairedLogistic()(first.float(), second.float(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, single)


def test_bad_input() -> None:
    x, rng = draw(4), torch.Generator()
    with pytest.raises(ValueError, match=r"negative: .*\(4,\).*\(3,\)"):
        paired_logistic_loss(x, x[:3])
    with pytest.raises(ValueError, match="positive: floating point"):
        paired_logistic_loss(x.long(), x)
    with pytest.raises(ValueError, match="reference_negative: .*None"):
        paired_logistic_loss(x, x, reference_positive=x)
    with pytest.raises(ValueError, match="reference_positive: .*None"):
        paired_logistic_loss(x, x, reference_negative=x)
    with pytest.raises(ValueError, match="reference_negative: .*shape"):
        paired_logistic_loss(x, x, reference_positive=x, reference_negative=x[:2])
    for beta in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="beta"):
            PairedLogistic(beta)
    with pytest.raises(ValueError, match="first: .*at least 2"):
        PairedLogistic()(torch.ones(1, 2), torch.ones(1, 2), rng)
    with pytest.raises(ValueError, match="second: shape"):
        PairedLogistic()(torch.ones(3, 2), torch.ones(4, 2), rng)
