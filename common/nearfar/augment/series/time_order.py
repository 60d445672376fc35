"""Negatives of a series: the same steps in an order that did not happen (after TeminAL, time-order negatives).

They are wrong only where order matters for the task: not for a stationary series that runs backwards just as well.
Steps are moved whole and never mixed, so a missing value (NaN) goes where its step goes and nowhere else.

:class:`nearfar.augment.series.Reverse` and :class:`nearfar.augment.series.Permutation` are views of the same sample;
these return a series to be told from it, which never has the old order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.augment.series.batch import Batch


def reversed_series(x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Every series backwards.

    Args:
        x: Series, shape ``(B, T, F)``.
        valid: Which steps there are, one run a row, bool, shape ``(B, T)``; others stay where they are.

    Returns:
        Same shape as ``x``.

    Raises:
        ValueError: If ``x`` or ``valid`` is not of that form.

    Example:
        >>> reversed_series(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten().tolist()
        [3.0, 2.0, 1.0]
    """
    batch = Batch.of(x, torch.Generator(), valid)
    return _moved(batch, batch.length - 1 - batch.step)


def swapped_segments(
    x: Tensor, generator: torch.Generator, *, segments: int = 2, valid: Tensor | None = None
) -> Tensor:
    """Two segments of every series in each other's place.

    A series is cut into segments as equal as can be, and two of them, drawn alike from all pairs, change places. With
    two segments that is the second half before the first, whatever is drawn.

    Args:
        x: Series, shape ``(B, T, F)``.
        generator: Source of the draws.
        segments: In how many a series is cut, from 2 to T. A row with fewer valid steps is cut at each of them.
        valid: Which steps there are, one run a row, bool, shape ``(B, T)``; others stay where they are.

    Returns:
        Same shape as ``x``. The order differs from the old one in every row with two valid steps or more.

    Raises:
        ValueError: If ``x`` or ``valid`` is not of that form, or ``segments`` is out of range.

    Example:
        >>> x = torch.arange(5.0).reshape(1, 5, 1)
        >>> swapped_segments(x, torch.Generator()).flatten().tolist()
        [3.0, 4.0, 0.0, 1.0, 2.0]
    """
    batch = Batch.of(x, generator, valid)
    if not 2 <= segments <= x.shape[1]:
        raise ValueError(f"segments: 2 to the {x.shape[1]} steps of a series expected, got {segments}")
    number = torch.arange(segments, device=x.device)
    # As equal as can be: the first (length modulo segments) have one step more.
    size = batch.length // segments + (number < batch.length % segments)
    used = batch.length.clamp(max=segments)
    first, second = _pair(batch, used)
    order = torch.where(number == first, second, torch.where(number == second, first, number))
    end = size.gather(1, order).cumsum(1)
    inside = batch.step.clamp(min=0).minimum(batch.length - 1).contiguous()
    slot = torch.searchsorted(end, inside, right=True).clamp(max=segments - 1)
    start = F.pad(size.cumsum(1), (1, -1))
    # Where the segment in this slot came from, less where it starts now.
    shift = (start.gather(1, order) - (end - size.gather(1, order))).gather(1, slot)
    return _moved(batch, batch.step + shift)


def _pair(batch: Batch, used: Tensor) -> tuple[Tensor, Tensor]:
    """Two different numbers below ``used``, all pairs alike, each ``(B, 1)``; equal where there is only one."""
    first = batch.integers(used)
    more = batch.integers((used - 1).clamp(min=1))
    second = torch.where(used > 1, (first + 1 + more) % used, first)
    return first, second


def _moved(batch: Batch, source: Tensor) -> Tensor:
    """Steps taken from where ``source`` says, counted from the first valid one; others stay."""
    inside = (batch.step >= 0) & (batch.step < batch.length)
    if batch.valid is not None:
        inside &= batch.valid
    index = torch.where(inside, source, batch.step) + batch.first
    return batch.x.gather(1, index[:, :, None].expand_as(batch.x))
