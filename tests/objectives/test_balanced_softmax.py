"""Balanced softmax and logit adjustment against their definitions, gradients and empty classes included."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from nearfar.objectives.balanced_softmax import balanced_softmax, logit_adjustment

COUNTS = torch.tensor([50, 8, 1])


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=rng, dtype=torch.float64).to(dtype), torch.tensor([0, 1, 2, 0, 2, 1])


def test_against_a_loop() -> None:
    logits, target = batch()
    losses = []
    for row, label in zip(logits.tolist(), target.tolist(), strict=True):
        weighted = [count * math.exp(value) for count, value in zip(COUNTS.tolist(), row, strict=True)]
        losses.append(-math.log(weighted[label] / sum(weighted)))
    assert balanced_softmax(logits, target, COUNTS).item() == pytest.approx(sum(losses) / 6)
    assert balanced_softmax(logits, target, COUNTS.numpy()).item() == pytest.approx(sum(losses) / 6)


def test_equal_counts_are_cross_entropy() -> None:
    logits, target = batch()
    assert torch.allclose(
        balanced_softmax(logits, target, torch.tensor([7, 7, 7])), F.cross_entropy(logits, target)
    )


def test_probabilities() -> None:
    logits, target = batch()
    hard = F.one_hot(target, 3).double()
    assert torch.allclose(balanced_softmax(logits, hard, COUNTS), balanced_softmax(logits, target, COUNTS))
    mixed = 0.3 * hard + 0.7 * hard.flip(0)
    expected = 0.3 * balanced_softmax(logits, hard, COUNTS) + 0.7 * balanced_softmax(
        logits, target.flip(0), COUNTS
    )
    assert torch.allclose(balanced_softmax(logits, mixed, COUNTS), expected)
    assert torch.allclose(
        balanced_softmax(logits, mixed, COUNTS), F.cross_entropy(logits + COUNTS.log(), mixed)
    )


@pytest.mark.parametrize("soft", [False, True])
def test_gradients(soft: bool) -> None:
    logits, target = batch()
    given = F.one_hot(target, 3).double() if soft else target
    counts = torch.tensor([50, 8, 1])
    assert torch.autograd.gradcheck(lambda x: balanced_softmax(x, given, counts), logits.requires_grad_())


@pytest.mark.parametrize("soft", [False, True])
def test_a_class_without_items_is_left_out(soft: bool) -> None:
    logits, target = batch()
    wide = torch.cat(
        [logits[:, :1], torch.full((6, 1), 3.0, dtype=torch.float64), logits[:, 1:]], 1
    ).requires_grad_()
    target = target + (target > 0)
    given = F.one_hot(target, 4).double() if soft else target
    loss = balanced_softmax(wide, given, torch.tensor([50, 0, 8, 1]))
    assert torch.allclose(loss, balanced_softmax(logits, batch()[1], COUNTS))
    loss.backward()
    assert wide.grad is not None
    assert wide.grad.isfinite().all()
    assert torch.equal(wide.grad[:, 1], torch.zeros(6, dtype=torch.float64))
    assert wide.grad[:, 0].abs().min() > 0


def test_half_precision() -> None:
    logits, target = batch(torch.bfloat16)
    loss = balanced_softmax(logits, target, torch.tensor([5_000_000, 8, 1]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        balanced_softmax(logits.double(), target, torch.tensor([5_000_000, 8, 1])).item(), rel=1e-5
    )


def test_bayes_rule_undoes_the_training_prior() -> None:
    """Posteriors under one prior become those under equal priors; an empty class is never predicted."""
    likelihood = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], dtype=torch.float64)
    posterior = likelihood * COUNTS / (likelihood * COUNTS).sum(1, keepdim=True)
    adjusted = logit_adjustment(posterior.log(), COUNTS).softmax(1)
    assert torch.allclose(adjusted, likelihood / likelihood.sum(1, keepdim=True))
    assert torch.equal(logit_adjustment(posterior.log(), COUNTS, tau=0.0), posterior.log())
    for tau in (0.0, 1.0):
        adjusted = logit_adjustment(torch.zeros(1, 3), torch.tensor([0, 3, 1]), tau)
        assert adjusted[0, 0] == -torch.inf
        assert adjusted[0, 1:].isfinite().all()


def test_bad_input() -> None:
    logits, target = batch()
    with pytest.raises(ValueError, match="target: row 1 is of a class whose count is 0"):
        balanced_softmax(logits, target, torch.tensor([5, 0, 2]))
    with pytest.raises(ValueError, match="target: row 1 is of a class whose count is 0"):
        balanced_softmax(logits, F.one_hot(target, 3).double(), torch.tensor([5, 0, 2]))
    with pytest.raises(ValueError, match="target: classes from 0 to 2 expected"):
        balanced_softmax(logits, target + 1, COUNTS)
    with pytest.raises(ValueError, match=r"target: int64 of shape \(6,\) or probabilities"):
        balanced_softmax(logits, target[:3], COUNTS)
    for counts in (torch.zeros(3), torch.tensor([3, -1, 2]), torch.tensor([1.0, torch.nan, 1.0])):
        with pytest.raises(ValueError, match="counts: numbers of at least 0, not all 0, expected"):
            balanced_softmax(logits, target, counts)
    with pytest.raises(ValueError, match=r"counts: logits \(B, K\) and counts \(K,\) expected"):
        logit_adjustment(logits, COUNTS[:2])
    with pytest.raises(ValueError, match="logits: at least one row expected"):
        balanced_softmax(logits[:0], target[:0], COUNTS)
    with pytest.raises(ValueError, match="logits: finite numbers expected"):
        balanced_softmax(logits.masked_fill(logits == logits[0, 0], torch.nan), target, COUNTS)
