"""CoACT against a loop, SupCon and NT-Xent; its teacher is an anchor without gradient."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import LearnableTemperature
from nearfar.objectives.coact import CoACT
from nearfar.testing import LargestTensor, draw

LABELS = torch.tensor([0, 1, 0, 2])


def views(num: int = 4, dim: int = 3) -> list[Tensor]:
    return [draw(num, dim, seed=i) for i in range(3)]


def slow(z: Tensor, labels: list[int], temperature: float, anchors: range) -> float:
    cosines = (F.cosine_similarity(z[:, None], z, dim=-1) / temperature).tolist()
    losses = []
    for i in anchors:
        others = [j for j in range(len(z)) if j != i]
        mates = [j for j in others if labels[j] == labels[i]]
        total = math.log(math.fsum(math.exp(cosines[i][j]) for j in others))
        losses.append(total - math.fsum(cosines[i][j] for j in mates) / len(mates))
    return math.fsum(losses) / len(losses)


def test_is_the_loop_over_all_three() -> None:
    inputs = views()
    labels = LABELS.tolist() * 3
    found = CoACT(0.3)(*inputs, LABELS).item()
    assert found == pytest.approx(slow(torch.cat(inputs), labels, 0.3, range(12)), rel=1e-9)
    assert found != pytest.approx(slow(torch.cat(inputs), labels, 0.3, range(8)), rel=1e-3)


def test_limits() -> None:
    x = torch.ones(5, 2)
    assert CoACT()(x, x, x, torch.arange(5)).item() == pytest.approx(math.log(14))
    apart = torch.eye(5, dtype=torch.float64)
    expected = math.log(2 * math.exp(1 / 0.07) + 12) - 1 / 0.07
    assert CoACT()(apart, apart, apart, torch.arange(5)).item() == pytest.approx(expected)


def test_the_teacher_moves_the_student_and_does_not_move() -> None:
    inputs = [x.requires_grad_() for x in views()]
    loss = CoACT(LearnableTemperature(0.3)).double()
    loss(*inputs, LABELS).backward()
    assert [x.grad is not None for x in inputs] == [True, True, False]
    assert len(loss.state_dict()) == 1
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    fixed = inputs[2].detach()
    assert torch.autograd.gradcheck(lambda a, b: CoACT(0.3)(a, b, fixed, LABELS), tuple(inputs[:2]))
    # The student's gradient is the whole one, that of rows the teacher picks included.
    free = [x.detach().requires_grad_() for x in inputs]
    whole = torch.autograd.grad(_dense(torch.cat(free)), free)
    for x, want in zip(inputs[:2], whole[:2], strict=True):
        torch.testing.assert_close(x.grad, want)


def _dense(z: Tensor) -> Tensor:
    logits = F.cosine_similarity(z[:, None], z, dim=-1) / 0.3
    itself, labels = torch.eye(12, dtype=torch.bool), LABELS.repeat(3)
    log_softmax = logits - logits.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    mates = (labels[:, None] == labels) & ~itself
    return -((log_softmax * mates).sum(1) / mates.sum(1)).mean()


def test_unlabelled_rows_are_keys() -> None:
    inputs = views()
    some = torch.tensor([0, 1, 0, -1])
    found = CoACT(0.3)(*inputs, some)
    labelled = [i for i in range(12) if i % 4 != 3]
    z = torch.cat(inputs)
    logits = F.cosine_similarity(z[:, None], z, dim=-1) / 0.3
    labels = some.repeat(3)
    losses = []
    for i in labelled:
        others = torch.arange(12) != i
        mates = (labels == labels[i]) & others
        losses.append(logits[i][others].logsumexp(0) - logits[i][mates].mean())
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_half_precision_is_computed_in_single() -> None:
    inputs = [x.bfloat16() for x in views()]
    found = CoACT()(*inputs, LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, CoACT()(*(x.float() for x in inputs), LABELS))


def test_no_table_of_all_pairs() -> None:
    inputs = [x.float().requires_grad_() for x in views(2048, 8)]
    with LargestTensor() as largest:
        CoACT()(*inputs, torch.arange(2048) % 10).backward()
    assert 3 * 2048 * 8 <= largest.numbers < (3 * 2048) ** 2 / 8


def test_bad_input() -> None:
    x = draw(4, 3)
    with pytest.raises(ValueError, match=r"labels: int64 of shape \(4,\)"):
        CoACT()(x, x, x, LABELS.repeat(3))
    with pytest.raises(ValueError, match="target_second: shape"):
        CoACT()(x, x, x[:2], LABELS)
    with pytest.raises(ValueError, match="temperature"):
        CoACT(0.0)
    with pytest.raises(ValueError, match="positive"):
        CoACT()(x, x, x, torch.full((4,), -1))
