"""Distillation over the teacher's candidates against a loop, weights that must count, and both limits of alpha."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import LearnableTemperature, row_tiles
from nearfar.objectives.distilled import DistilledInfoNCE, Weighting, row_weights
from nearfar.testing import LargestTensor, draw

WEIGHTINGS: tuple[Weighting, ...] = ("entropy", "focal", "uniform")


def views(num: int = 9, dim: int = 4) -> list[Tensor]:
    return [draw(num, dim, seed=i) for i in range(4)]


def cosines(x: Tensor, y: Tensor) -> list[list[float]]:
    found: list[list[float]] = F.cosine_similarity(x[:, None], y, dim=-1).tolist()
    return found


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def cross_entropy(logits: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, logits))) - logits[0]


def loop_weights(
    student: list[list[float]], teacher: list[list[float]], weighting: str
) -> tuple[list[float], list[float]]:
    num = len(student)
    if weighting == "uniform":
        return [1 / num] * num, [1 / num] * num
    if weighting == "focal":
        behind = [
            1 - math.exp(-cross_entropy(s) / cross_entropy(t)) for s, t in zip(student, teacher, strict=True)
        ]
        return [x / math.fsum(behind) for x in behind], [1 / num] * num
    entropies = []
    for row in teacher:
        total = math.fsum(map(math.exp, row))
        entropies.append(-math.fsum(math.exp(x) / total * math.log(math.exp(x) / total) for x in row))
    v = [x / math.fsum(entropies) for x in entropies]
    powers = [math.exp((1 - x) ** 2) for x in v]
    return [x / math.fsum(powers) for x in powers], v


def slow(
    inputs: list[Tensor], *, tau: float, taught: float, alpha: float, count: int, weighting: str
) -> float:
    by_student, by_teacher = cosines(*inputs[:2]), cosines(*inputs[2:])
    student, teacher = [], []
    for i, row in enumerate(by_teacher):
        others = sorted(set(range(len(row))) - {i}, key=row.__getitem__, reverse=True)
        places = [i, *others[:count]]
        teacher.append([row[j] / taught for j in places])
        student.append([by_student[i][j] / tau for j in places])
    w, v = loop_weights(student, teacher, weighting)
    loss = 0.0
    for i, (s, t) in enumerate(zip(student, teacher, strict=True)):
        error = math.fsum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(s)
        entropy = (softplus(-s[0]) + math.fsum(map(softplus, s[1:]))) / len(s)
        loss += alpha * taught**2 * w[i] * error + (1 - alpha) * v[i] * entropy
    return loss


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("count", [3, 8, 50])
def test_is_the_loop(weighting: Weighting, count: int) -> None:
    inputs = views()
    loss = DistilledInfoNCE(0.3, teacher_temperature=0.2, alpha=0.4, count=count, weighting=weighting)
    expected = slow(inputs, tau=0.3, taught=0.2, alpha=0.4, count=count, weighting=weighting)
    assert loss(*inputs).item() == pytest.approx(expected, rel=1e-9)


def test_weights_count() -> None:
    """With a mean over all rows in place of each row's own error, as in the official code, they would not."""
    first, second, target_first, target_second = views()
    student = F.normalize(first.clone())
    # The student errs in the row of which the teacher is surest.
    target_second = target_first + 0.3 * target_second
    apart = {}
    for weighting in WEIGHTINGS:
        loss = DistilledInfoNCE(1.0, teacher_temperature=1.0, alpha=1.0, weighting=weighting)
        apart[weighting] = loss(student, second, target_first, target_second).item()
    assert abs(apart["entropy"] - apart["uniform"]) > 1e-4 * apart["uniform"]
    assert abs(apart["focal"] - apart["uniform"]) > 1e-2 * apart["uniform"]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_limits(weighting: Weighting) -> None:
    _, _, target_first, target_second = views()
    teacher = (target_first, target_second)
    alone = DistilledInfoNCE(alpha=1.0, weighting=weighting)(*teacher, *teacher)
    assert alone.item() == pytest.approx(0, abs=1e-12)
    # Without distillation the teacher chooses candidates and weights only.
    ranking = DistilledInfoNCE(alpha=0.0, count=8, weighting="uniform")(*teacher, *views()[:2])
    logits = F.cosine_similarity(target_first[:, None], target_second, dim=-1) / 0.1
    expected = F.binary_cross_entropy_with_logits(logits, torch.eye(9, dtype=torch.float64))
    torch.testing.assert_close(ranking, expected)


def test_weights_of_known_rows() -> None:
    sure, unsure = [40.0, -40.0, -40.0], [0.0, 0.0, 0.0]
    teacher = torch.tensor([sure, unsure, unsure], dtype=torch.float64)
    w, v = row_weights(teacher, teacher, "entropy")
    torch.testing.assert_close(v, torch.tensor([0, 0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(w, torch.tensor([1, 0.25, 0.25], dtype=torch.float64).softmax(0))
    student = torch.tensor([unsure, unsure, sure], dtype=torch.float64)
    w, v = row_weights(student, teacher, "focal")
    assert w[0] > w[1] > w[2]
    assert w[2] == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(v, torch.full((3,), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_weights_add_up_even_if_nothing_is_unsure(weighting: Weighting) -> None:
    sure = torch.tensor([[900.0, -900.0]] * 4)
    for logits in (sure, draw(4, 2).float()):
        for weights in row_weights(logits, sure, weighting):
            assert weights.sum().item() == pytest.approx(1)
            assert (weights >= 0).all()


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_gradients(weighting: Weighting) -> None:
    inputs = [x.requires_grad_() for x in views(5, 3)]
    loss = DistilledInfoNCE(
        LearnableTemperature(0.5), teacher_temperature=0.5, count=2, weighting=weighting
    ).double()
    loss(*inputs).backward()
    assert [x.grad is not None for x in inputs] == [True, True, False, False]
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    if weighting != "focal":  # whose weights depend on the student, and are held
        fixed = [x.detach() for x in inputs[2:]]
        assert torch.autograd.gradcheck(lambda a, b: loss(a, b, *fixed), tuple(inputs[:2]))


def test_the_teacher_may_be_wider() -> None:
    first, second, target_first, target_second = views()
    wide = [torch.cat([x, 0 * x], 1) for x in (target_first, target_second)]
    found = DistilledInfoNCE()(first, second, *wide)
    torch.testing.assert_close(found, DistilledInfoNCE()(first, second, target_first, target_second))


def test_half_precision_is_computed_in_single() -> None:
    inputs = [x.bfloat16() for x in views()]
    found = DistilledInfoNCE()(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, DistilledInfoNCE()(*(x.float() for x in inputs)))


def test_no_table_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tiles, "NUMBERS", 2**20)
    inputs = [x.float().requires_grad_() for x in views(4096, 16)]
    with LargestTensor() as largest:
        DistilledInfoNCE()(*inputs).backward()
    assert 2**20 // 2 <= largest.numbers < 4096**2 / 8


def test_bad_input() -> None:
    x = draw(4, 3)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            DistilledInfoNCE(alpha=alpha)
    with pytest.raises(ValueError, match="count"):
        DistilledInfoNCE(count=0)
    with pytest.raises(ValueError, match="teacher_temperature"):
        DistilledInfoNCE(teacher_temperature=0.0)
    with pytest.raises(ValueError, match="weighting: 'entropy' or"):
        DistilledInfoNCE(weighting="dynamic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target_first: 4 rows"):
        DistilledInfoNCE()(x, x, x[:2], x[:2])
    with pytest.raises(ValueError, match="target_second: shape"):
        DistilledInfoNCE()(x, x, x, x[:2])
    with pytest.raises(ValueError, match="first: .*at least 2"):
        DistilledInfoNCE()(*[x[:1]] * 4)
