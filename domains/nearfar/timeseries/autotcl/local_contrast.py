r"""Neighbouring segments of a series alike, others not (eq. 13 and 14 of AutoTCL, Zheng et al., ICLR 2024).

The representation of every step is normalised, 16 segments of T // 16 steps from a random start are max-pooled, and
each has to pick the next one (the last one: the one before) among the 13 that are not its neighbours. It is one call of
the shared contrast, with this rule of who is whose negative.

The published program looks at the first series of the batch only, and at the original instead of the view.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.objectives.denominator import Mask
from nearfar.runtime import to_device

SEGMENTS = 16


def local_contrast(z: Tensor, generator: torch.Generator, *, temperature: float = 1.0) -> Tensor:
    """Mean over segments and series, a scalar; 0 for series of fewer than 16 steps.

    Args:
        z: Representations, shape ``(B, T, D)``.
        generator: Source of the start, one a batch.
        temperature: Of the softmax.
    """
    rows, steps, width = z.shape
    size = steps // SEGMENTS
    if size == 0:
        return z.sum() * 0
    device = generator.device
    start = torch.randint(steps - SEGMENTS * size + 1, (1,), generator=generator, device=device)
    place = to_device(start + torch.arange(SEGMENTS * size, device=device), z.device)
    part = F.normalize(z.index_select(1, place), dim=-1)
    segments = part.reshape(rows, SEGMENTS, size, width).amax(2)
    positives, negatives = (matrix.to(z.device) for matrix in neighbours())
    return contrast(
        segments,
        segments,
        positives=positives.to(z.dtype),
        denominator=Mask(negatives),
        temperature=temperature,
        similarity="dot",
        backend="dense",
    )


@functools.cache
def neighbours() -> tuple[Tensor, Tensor]:
    """Positives (one a row) and negatives (13 a row) of the segments, bool, shape ``(16, 16)`` each.

    Example:
        >>> positives, negatives = neighbours()
        >>> positives.sum().item(), negatives.sum(1).unique().tolist()
        (16, [13])
    """
    place = torch.arange(SEGMENTS)
    nearest = torch.where(place == SEGMENTS - 1, place - 1, place + 1)
    positives = place == nearest[:, None]
    negatives = (place - place[:, None]).abs() >= 2
    # The ends have one neighbour less; one negative is left out so that all rows have as many.
    negatives[0, 2] = negatives[-1, -3] = False
    return positives, negatives
