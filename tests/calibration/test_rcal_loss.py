"""The parts of the loss on real rows: mixtures, soft labels, cross-entropy and drift."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.calibration.rcal.loss import Mixture, classification_loss, drift, soft_labels
from nearfar.objectives.balanced_softmax import balanced_softmax
from nearfar.runtime import generator


def problem(size: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    rng = generator(0, "problem")
    logits = torch.randn(size, classes, generator=rng, dtype=torch.float64) * 3
    return logits, torch.randint(0, classes, (size,), generator=rng)


def mixture(size: int, a: float = 1.0, stream: int = 0) -> Mixture:
    """Partners and share in double precision."""
    return Mixture.draw(torch.zeros(size, 2, dtype=torch.float64), a, generator(0, "mixup", stream))


def test_a_share_of_one_is_plain_cross_entropy() -> None:
    """Also with partners, and with Beta(0, 0), which stands for no mixing."""
    logits, y = problem()
    hot = soft_labels(y, 4, None, torch.float64)
    alone = Mixture(torch.randperm(7, generator=generator(0, "p")), torch.ones((), dtype=torch.float64))
    for one in (alone, mixture(7, a=0.0)):
        targets = one.of(hot)
        assert torch.equal(targets, hot)
        assert classification_loss(logits, targets, None) / 7 == pytest.approx(
            F.cross_entropy(logits, y).item()
        )
        assert torch.equal(one.of(logits), logits)


@pytest.mark.parametrize("stream", range(3))
def test_soft_labels_are_torchs_probabilities(stream: int) -> None:
    """torch's own cross-entropy with probabilities, and the sum of two with hard labels."""
    logits, y = problem()
    mixed = mixture(7, stream=stream)
    targets = mixed.of(soft_labels(y, 4, None, torch.float64))
    found = classification_loss(logits, targets, None)
    torch.testing.assert_close(found, F.cross_entropy(logits, targets, reduction="sum"))
    first, second = (F.cross_entropy(logits, labels, reduction="sum") for labels in (y, y[mixed.order]))
    torch.testing.assert_close(found, mixed.share * first + (1 - mixed.share) * second)


def test_mixtures_by_a_loop() -> None:
    """Every row with its partner, in any number of axes."""
    values = torch.randn(5, 2, 3, generator=generator(0, "v"), dtype=torch.float64)
    one = mixture(5)
    assert sorted(one.order.tolist()) == list(range(5))
    assert one.share.shape == ()
    assert 0 < one.share < 1
    for row, partner in enumerate(one.order.tolist()):
        expected = float(one.share) * values[row] + (1 - float(one.share)) * values[partner]
        torch.testing.assert_close(one.of(values)[row], expected)


def test_shares_are_draws_from_beta() -> None:
    """Mean 1/2 and variance 1 / (4 (2a + 1)); one generator, one mixture."""
    for a in (0.2, 1.0, 4.0):
        shares = torch.stack([mixture(2, a, stream).share for stream in range(2000)])
        variance = 1 / (4 * (2 * a + 1))
        assert float(shares.mean()) == pytest.approx(0.5, abs=4 * (variance / 2000) ** 0.5)
        assert float(shares.var()) == pytest.approx(variance, rel=0.15)
    assert torch.equal(mixture(9).order, mixture(9).order)
    assert not torch.equal(mixture(9).order, mixture(9, stream=1).order)


def test_rows_of_weight_zero_count_for_nothing() -> None:
    """Neither in the loss nor in the gradient."""
    logits, y = problem()
    logits.requires_grad_()
    weights = torch.tensor([True, False, True, True, False, True, True])
    targets = soft_labels(y, 4, weights, torch.float64)
    assert targets.sum(1).tolist() == weights.double().tolist()
    loss = classification_loss(logits, targets, None)
    torch.testing.assert_close(loss, F.cross_entropy(logits[weights], y[weights], reduction="sum"))
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, weights)


def test_soft_labels_of_classes_without_a_row() -> None:
    """K is what it is told, not one more than the largest label."""
    hot = soft_labels(torch.tensor([1, 0]), 5, None, torch.float32)
    assert hot.dtype == torch.float32
    assert hot.tolist() == [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]


def test_counts_make_it_a_balanced_softmax() -> None:
    """Logits plus logarithms of counts, by a loop; a class without rows is in nobody's denominator."""
    logits, _ = problem()
    y, counts = torch.tensor([0, 1, 3, 3, 0, 1, 0]), torch.tensor([90, 9, 0, 1])
    mixed = mixture(7)
    targets = mixed.of(soft_labels(y, 4, None, torch.float64))
    found = classification_loss(logits, targets, counts)
    expected = 0.0
    for row in range(7):
        weights = [n * float(logits[row, k].exp()) for k, n in enumerate(counts.tolist())]
        for k in (0, 1, 3):
            expected -= float(targets[row, k] * torch.tensor(weights[k] / sum(weights)).log())
    assert float(found) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(found, 7 * balanced_softmax(logits, targets, counts))


def test_half_precision_is_widened() -> None:
    """Sums over hundreds of rows do not fit into bfloat16."""
    logits, y = problem(300)
    targets = soft_labels(y, 4, None, torch.float32)
    found = classification_loss(logits.bfloat16(), targets, None)
    assert found.dtype == torch.float32
    expected = F.cross_entropy(logits.bfloat16().float(), y, reduction="sum")
    torch.testing.assert_close(found, expected)
    z, anchor = torch.full((1, 3), 1.0).bfloat16(), torch.full((1, 3), 1.001)
    assert drift(z, anchor).item() == pytest.approx(3e-6, rel=1e-2)


def test_gradient_of_the_drift() -> None:
    """2 beta (f - z0) / B, by autograd in double precision; nothing for z0, which is a constant."""
    rng = generator(0, "z")
    z, anchor = (torch.randn(6, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    beta = 0.7
    expected = [sum((float(z[i, j]) - float(anchor[i, j])) ** 2 for j in range(5)) for i in range(6)]
    z.requires_grad_()
    assert drift(z, anchor).tolist() == pytest.approx(expected)
    (beta * drift(z, anchor).sum() / 6).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, 2 * beta * (z.detach() - anchor) / 6)
    assert anchor.grad is None
