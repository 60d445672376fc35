"""Crop, mask and reorder for item sequences (CL4SRec, Xie et al., 2022), one gather a batch.

Sequences are rows of item indices, left-aligned, 0 for padding; all counts are rounded down. The law
is that of MCLRec (Qin et al., SIGIR 2023): two *different* operators a row, ordered, uniform; a row of
length 1 is left as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.augment.draws import uniform

CROP_RATIO, MASK_RATIO, REORDER_RATIO = 0.5, 0.5, 0.8


def _positions(items: Tensor) -> Tensor:
    return torch.arange(items.shape[1], device=items.device).expand_as(items)


def _window_start(lengths: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform start of a window of ``size`` inside each row, shape ``(N, 1)``."""
    draw = uniform(lengths.shape, lengths, generator)
    return (draw * (lengths - size + 1)).long()[:, None]


def crop(
    items: Tensor, lengths: Tensor, generator: torch.Generator, *, ratio: float = CROP_RATIO
) -> tuple[Tensor, Tensor]:
    """Keep ``floor(length * (1 - ratio))`` (at least one) consecutive items, left-aligned again.

    Args:
        items: Item indices, shape ``(N, L)``, int64, 0 = padding.
        lengths: Items per row, shape ``(N,)``, each at least 1.
        generator: Source of the window starts.
        ratio: Share removed, in [0, 1).

    Returns:
        New items ``(N, L)`` and lengths ``(N,)``; the input is untouched.
    """
    size = (lengths * (1 - ratio)).long().clamp(min=1)
    start = _window_start(lengths, size, generator)
    position = _positions(items)
    moved = items.gather(1, (position + start).clamp(max=items.shape[1] - 1))
    return moved * (position < size[:, None]), size


def mask(
    items: Tensor, lengths: Tensor, generator: torch.Generator, *, ratio: float = MASK_RATIO
) -> tuple[Tensor, Tensor]:
    """Set ``floor(length * ratio)`` distinct items a row to 0; positions and lengths stay.

    Args and returns as :func:`crop`, with ``ratio`` the share hidden.
    """
    draw = uniform(items.shape, items, generator)
    valid = _positions(items) < lengths[:, None]
    rank = draw.masked_fill(~valid, 2.0).argsort(1).argsort(1)
    hidden = rank < (lengths * ratio).long()[:, None]
    return items.masked_fill(hidden, 0), lengths.clone()


def reorder(
    items: Tensor, lengths: Tensor, generator: torch.Generator, *, ratio: float = REORDER_RATIO
) -> tuple[Tensor, Tensor]:
    """Shuffle ``floor(length * ratio)`` consecutive items a row uniformly; lengths stay.

    Args and returns as :func:`crop`, with ``ratio`` the share shuffled.
    """
    size = (lengths * ratio).long()
    start = _window_start(lengths, size, generator)
    position = _positions(items)
    inside = (position >= start) & (position < start + size[:, None])
    # Outside the window a position keeps its own place; inside, the order is that of uniform draws
    # that all lie between the places left and right of the window.
    draw = uniform(items.shape, items, generator)
    span = (size[:, None] - 1).clamp(min=0)
    key = torch.where(inside, start + draw * span, position.float())
    return items.gather(1, key.argsort(dim=1, stable=True)), lengths.clone()


def two_views(
    items: Tensor,
    lengths: Tensor,
    generator: torch.Generator,
    *,
    crop_ratio: float = CROP_RATIO,
    mask_ratio: float = MASK_RATIO,
    reorder_ratio: float = REORDER_RATIO,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two views of every row by two different operators drawn uniformly, in random order.

    Args:
        items: Item indices, shape ``(N, L)``, int64, 0 = padding.
        lengths: Items per row, shape ``(N,)``.
        generator: Source of every draw.
        crop_ratio: Share removed by :func:`crop`.
        mask_ratio: Share hidden by :func:`mask`.
        reorder_ratio: Share shuffled by :func:`reorder`.

    Returns:
        ``(items, lengths)`` of the first and of the second view; the input is untouched.
    """
    choice = (uniform(lengths.shape, lengths, generator) * 6).long()
    first, second = choice // 2, choice % 2
    second = second + (second >= first).long()
    views = []
    for operator in (first, second):
        options = (
            crop(items, lengths, generator, ratio=crop_ratio),
            mask(items, lengths, generator, ratio=mask_ratio),
            reorder(items, lengths, generator, ratio=reorder_ratio),
        )
        view, size = items, lengths
        for index, (changed, changed_size) in enumerate(options):
            use = (operator == index) & (lengths > 1)
            view = torch.where(use[:, None], changed, view)
            size = torch.where(use, changed_size, size)
        views.append((view, size))
    return views[0], views[1]
