r"""Masks that change slowly: near steps alike, far ones different (eq. 9 of AutoTCL, Zheng et al., ICLR 2024).

.. math:: L_t = \frac{1}{B} \sum_i |\pi_{i a} - \pi_{i p}| - |\pi_{i a} - \pi_{i n}|

For every series an anchor a is drawn, a neighbour p, and n at a quarter of the series or more (the paper leaves "far"
open). Taken of probabilities rather than of drawn masks: smooth, and of less variance.

The published program compares all series at the anchors of all series, uses both neighbours, and pulls far steps
*together* half of the time (``released``); its weight is 0 in most of its settings.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.runtime import to_device

FAR = 4


def triplet_loss(pi: Tensor, generator: torch.Generator) -> Tensor:
    """As the paper prints it, a scalar; 0 for series of fewer than 3 steps.

    Args:
        pi: Probabilities, shape ``(B, T, A)``.
        generator: Source of the draw.
    """
    rows, steps, _ = pi.shape
    if steps < 3:
        return pi.sum() * 0
    a, p, n = draw_triplets(rows, steps, generator)
    at = {name: _at(pi, place) for name, place in (("a", a), ("p", p), ("n", n))}
    return ((at["a"] - at["p"]).abs() - (at["a"] - at["n"]).abs()).mean()


def draw_triplets(rows: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, neighbours and far steps, int64, shape ``(B,)`` each.

    Args:
        rows: B.
        steps: T, at least 3.
        generator: Source; what is drawn is on its device.
    """
    place = generator.device
    a = torch.randint(steps, (rows,), generator=generator, device=place)
    side = 2 * torch.randint(2, (rows,), generator=generator, device=place) - 1
    side = torch.where(a == 0, 1, torch.where(a == steps - 1, -1, side))
    far = -(-steps // FAR)
    left, right = (a - far + 1).clamp(min=0), (steps - a - far).clamp(min=0)
    draw = torch.rand(rows, generator=generator, dtype=torch.float64, device=place)
    rank = (draw * (left + right)).long().minimum(left + right - 1)
    n = torch.where(rank < left, rank, a + far + rank - left)
    return a, a + side, n


def released_triplet_loss(pi: Tensor, generator: torch.Generator) -> Tensor:
    """As the published program computes it, a scalar; 0 for series of fewer than 5 steps.

    Args:
        pi: Probabilities, shape ``(B, T, A)``.
        generator: Source of the draw.
    """
    rows, steps, _ = pi.shape
    if steps < 5:
        return pi.sum() * 0
    a, n = (
        to_device(
            torch.randint(1, steps - 2, (rows,), generator=generator, device=generator.device), pi.device
        )
        for _ in range(2)
    )
    here = pi.index_select(1, a)
    near = (here - pi.index_select(1, a - 1)).abs() + (here - pi.index_select(1, a + 1)).abs()
    apart = (here - pi.index_select(1, n)).abs()
    far = torch.where((n > a + 1)[:, None], apart, 1 - apart)
    return (near + far).mean()


def _at(pi: Tensor, place: Tensor) -> Tensor:
    index = to_device(place, pi.device)[:, None, None].expand(-1, 1, pi.shape[2])
    return pi.gather(1, index)[:, 0]
