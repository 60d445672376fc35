"""SepCLR against a loop over pairs, its limits, batches of one kind, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives.logsumexp import small_tiles
from nearfar.objectives.sepclr import SepCLR, sepclr_loss
from nearfar.testing import LargestTensor, two_views

LABELS = torch.tensor([0, 2, 1, 0, -1, 1])
NONE: dict[str, Any] = {"weight_salient": 0.0, "weight_info": 0.0, "weight_joint": 0.0}


def slow(
    first: Tensor, second: Tensor, target: list[bool], t: float, weights: tuple[float, float, float]
) -> float:
    """The definition, one pair at a time."""
    num, half = len(first), first.shape[1] // 2
    loss = 0.0
    commons, salients = [], []
    for x in (first, second):
        commons.append(F.normalize(x.detach()[:, :half]).tolist())
        salients.append(x.detach()[:, half:].tolist())
    zero = [0.0] * half

    def distance(x: list[float], y: list[float]) -> float:
        return math.dist(x, y) ** 2 / (2 * t)

    def uniformity(rows: list[list[float]]) -> float:
        pairs = [math.exp(-distance(rows[i], rows[j])) for i in range(num) for j in range(i)]
        return math.log(sum(pairs) / len(pairs))

    loss += sum(map(distance, *commons)) / num
    aligned = [distance(salients[0][i], salients[1][i]) for i in range(num) if target[i]]
    loss += weights[0] * sum(aligned) / max(len(aligned), 1)
    for common, salient in zip(commons, salients, strict=True):
        seen = [s if is_target else zero for s, is_target in zip(salient, target, strict=True)]
        loss += uniformity(common) + weights[0] * uniformity(seen)
        background = [
            distance(s, zero) for s, is_target in zip(salient, target, strict=True) if not is_target
        ]
        loss += weights[1] / 2 * sum(background) / max(len(background), 1)
        both = [c + s for c, s in zip(common, seen, strict=True)]
        for i in range(num):
            kernel = [math.exp(-distance(both[i], both[j])) for j in range(num)]
            loss += weights[2] / 2 * math.log(sum(kernel) / num) / num
    return loss


@pytest.mark.parametrize("edge", [None, 1, 4])
@pytest.mark.parametrize("options", [(0.5, 1.0, 1.0, 0.1), (1.0, 0.0, 3.0, 0.0), (0.2, 2.0, 0.0, 5.0)])
@pytest.mark.parametrize(
    "labels", [LABELS, torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)]
)
def test_equals_the_definition(labels: Tensor, options: tuple[float, ...], edge: int | None) -> None:
    first, second = two_views()
    target = [label > 0 for label in labels.tolist()]
    expected = slow(first, second, target, options[0], options[1:])  # type: ignore[arg-type]
    loss = SepCLR(0, *options)
    with small_tiles(edge):
        assert loss(first, second, labels).item() == pytest.approx(expected, rel=1e-10)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert loss(second[order], first[order], labels[order]).item() == pytest.approx(expected, rel=1e-10)


def test_which_rows_are_targets() -> None:
    first, second = two_views()
    # Background 2: then 0 and 1 are targets; a negative label never is.
    target = torch.tensor([True, False, True, True, False, True])
    expected = sepclr_loss(first, second, target)
    torch.testing.assert_close(SepCLR(background=2)(first, second, LABELS), expected)


def test_limits() -> None:
    first, second = two_views()
    background, salient = torch.zeros(6, dtype=torch.int64), torch.ones(6, dtype=torch.int64)
    # Background only: the joint term is the uniformity of the common half, self pairs included.
    joint = SepCLR(**NONE | {"weight_joint": 1.0})(first, second, background) - SepCLR(**NONE)(
        first, second, background
    )
    kernels = []
    for x in (first, second):
        c = F.normalize(x[:, :2])
        kernels.append(torch.exp(-(c[:, None] - c).square().sum(-1)).mean(1).log().mean())
    torch.testing.assert_close(joint, torch.stack(kernels).mean())
    # Constant halves: nothing to spread, nothing to align.
    ones = torch.ones(6, 4)
    assert SepCLR(weight_joint=1.0)(ones, ones, salient).item() == pytest.approx(0, abs=1e-5)
    # Targets only: nothing is drawn to 0.
    torch.testing.assert_close(
        SepCLR(**NONE | {"weight_info": 9.0})(first, second, salient), SepCLR(**NONE)(first, second, salient)
    )


@pytest.mark.parametrize("label", [0, 1])
def test_batches_of_one_kind_have_finite_gradients(label: int) -> None:
    first, second = two_views()
    SepCLR()(first, second, torch.full((6,), label)).backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    if label == 0:  # all salient features are drawn to 0
        assert (first.grad[:, 2:] * first[:, 2:] > 0).all()


@pytest.mark.parametrize("edge", [None, 3])
def test_derivatives(edge: int | None) -> None:
    with small_tiles(edge):
        assert torch.autograd.gradcheck(lambda a, b: SepCLR(weight_joint=2.0)(a, b, LABELS), two_views())


def test_no_table_of_all_pairs() -> None:
    first, second = two_views(4096, 4, torch.float32)
    with small_tiles(256), LargestTensor() as memory:
        SepCLR()(first, second, torch.arange(4096) % 3).backward()
    assert memory.numbers < 4096**2 / 8


def test_half_precision_is_computed_in_single() -> None:
    first, second = two_views(dtype=torch.bfloat16)
    found = SepCLR()(first, second, LABELS)
    torch.testing.assert_close(found, SepCLR()(first.float(), second.float(), LABELS), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("background: ", {"background": 0.5}),
        ("temperature: ", {"temperature": 0.0}),
        *((f"{name}: ", {name: -1.0}) for name in NONE),
    ],
)
def test_bad_arguments_are_named(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        SepCLR(**options)


def test_bad_tensors_are_named() -> None:
    first, second = two_views()
    with pytest.raises(ValueError, match="first: an even number"):
        SepCLR()(first[:, :3], second[:, :3], LABELS)
    with pytest.raises(ValueError, match="second: shape"):
        SepCLR()(first, second[:4], LABELS)
    for bad in (LABELS[:4], LABELS.double(), LABELS > 0):
        with pytest.raises(ValueError, match="labels: int64"):
            SepCLR()(first, second, bad)
    with pytest.raises(ValueError, match="target: bool of shape"):
        sepclr_loss(first, second, LABELS)
