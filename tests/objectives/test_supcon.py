"""SupCon's anchors against a loop that skips the other rows; the rest of SupCon is in test_softmax.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import SupCon
from nearfar.testing import LargestTensor, draw

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, -1, 3])
ANCHORS = torch.tensor([True, True, False, True, False, False, True, False])


def slow(z: Tensor, anchors: Tensor) -> float:
    cosines = F.cosine_similarity(z[:, None], z, dim=-1)
    losses = []
    for i in range(len(z)):
        mates = [j for j in range(len(z)) if j != i and LABELS[j] == LABELS[i] >= 0]
        if not anchors[i] or not mates:
            continue
        total = math.log(math.fsum(math.exp(cosines[i, j] / 0.2) for j in range(len(z)) if j != i))
        losses.append(total - math.fsum(cosines[i, j].item() / 0.2 for j in mates) / len(mates))
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_anchors_are_the_loop(backend: Any) -> None:
    z = draw(8, 4)
    loss = SupCon(0.2, backend=backend)
    assert loss(z, LABELS, anchors=ANCHORS).item() == pytest.approx(slow(z, ANCHORS), rel=1e-9)
    assert loss(z, LABELS).item() == pytest.approx(slow(z, torch.ones(8).bool()), rel=1e-9)
    assert loss(z, LABELS, anchors=torch.ones(8).bool()).item() == pytest.approx(loss(z, LABELS).item())


def test_rows_that_are_no_anchors_move_as_keys_only() -> None:
    z = draw(8, 4).requires_grad_()
    (grad,) = torch.autograd.grad(SupCon(0.2)(z, LABELS, anchors=ANCHORS), z)
    assert grad.norm(dim=1).min() > 0
    held = torch.where(ANCHORS[:, None], z, z.detach())  # detached keys
    (grad,) = torch.autograd.grad(SupCon(0.2)(held, LABELS, anchors=ANCHORS), z)
    assert (grad.norm(dim=1) > 0).tolist() == ANCHORS.tolist()
    assert torch.autograd.gradcheck(lambda z: SupCon(0.2)(z, LABELS, anchors=ANCHORS), (z,))


def test_anchors_of_several_problems() -> None:
    z, anchors = draw(2, 8, 4), torch.stack([ANCHORS, ~ANCHORS])
    each = SupCon(0.2)(z, LABELS, anchors=anchors)
    counts = [2, 3]  # anchors that have a positive
    parts = [SupCon(0.2)(z[i], LABELS, anchors=anchors[i]) * counts[i] for i in range(2)]
    torch.testing.assert_close(each, (parts[0] + parts[1]) / 5)


def test_base_temperature_goes_with_anchors() -> None:
    plain = SupCon(0.2)(draw(8, 4), LABELS, anchors=ANCHORS)
    torch.testing.assert_close(
        SupCon(0.2, base_temperature=0.1)(draw(8, 4), LABELS, anchors=ANCHORS), 2 * plain
    )


def test_no_table_of_all_pairs() -> None:
    z = draw(4096, 8).float().requires_grad_()
    labels = torch.arange(4096) % 10
    with LargestTensor() as largest:
        SupCon()(z, labels, anchors=labels < 3).backward()
    assert 4096 * 8 <= largest.numbers < 4096**2 / 8


def test_bad_anchors() -> None:
    z = draw(8, 4)
    with pytest.raises(ValueError, match=r"anchors: bool of shape \(8,\) expected, got torch.int64"):
        SupCon()(z, LABELS, anchors=ANCHORS.long())
    with pytest.raises(ValueError, match=r"anchors: .*\(7,\)"):
        SupCon()(z, LABELS, anchors=ANCHORS[:7])
    with pytest.raises(ValueError, match="anchors: at least one"):
        SupCon()(z, LABELS, anchors=torch.zeros(8).bool())
