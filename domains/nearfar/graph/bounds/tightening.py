r"""Bounds of the messages M = H W that keep the cancellation between channels.

An interval sent through W forgets that its channels move together. With H relaxed to
:math:`s (\hat A Y + b) + [0, t]`, the weight can be applied to each edge before the minimum over the box is taken:

.. math:: e_{jk} = (s_j * Y_k) W, \qquad
          M_j \ge \sum_k \bigl(L_{jk} [e_{jk}]_+ - U_{jk} [e_{jk}]_-\bigr) + (s_j * b) W - t_j [W]_-

Both ends are a middle, linear in e, plus or minus half of :math:`\sum_k (U - L)_{jk} |e_{jk}|`; only that sum needs the
edges, block by block. This is CROWN's bound (Zhang et al., NeurIPS 2018) of M_j, exact over the box.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nearfar.graph.bounds.boxes import Ball
from nearfar.graph.bounds.relaxation import Lines
from nearfar.graph.bounds.rows import by_rows
from nearfar.graph.intervals import IntervalAdjacency
from nearfar.graph.pattern import Pattern, product

Blocks = tuple[tuple[int, int, int, int], ...]


def relaxed_messages(
    first: IntervalAdjacency, blocks: Blocks, y: Tensor, hidden: Lines, weight: Tensor
) -> Ball:
    """Bounds of M = H W over the box of adjacencies.

    Args:
        first: m1 hidden nodes, m0 sources.
        blocks: Of its rows.
        y: Projected inputs of the sources, shape ``(m0, d1)``.
        hidden: Lines around the hidden activations, and the middle of their arguments, shape ``(m1, d1)``.
        weight: Of the second layer, shape ``(d1, d2)``.

    Returns:
        Shape ``(m1, d2)``.
    """
    spread = edge_magnitudes(first, blocks, y, hidden.slope, weight)
    magnitude = weight.abs()

    def ends(middle: Tensor, s: Tensor, t: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        # [0, t] is an interval too, of middle and radius t / 2.
        return (s * middle + t / 2) @ weight, (t @ magnitude + spread) / 2

    return Ball(*by_rows(ends, *hidden, spread))


def edge_magnitudes(first: IntervalAdjacency, blocks: Blocks, y: Tensor, s: Tensor, weight: Tensor) -> Tensor:
    """:math:`\\sum_k (U - L)_{jk} |(s_j * y_k) W|`; Args as :func:`relaxed_messages`.

    Args:
        first: m1 hidden nodes, m0 sources.
        blocks: Of its rows.
        y: Shape ``(m0, d1)``.
        s: Shape ``(m1, d1)``.
        weight: Shape ``(d1, d2)``.

    Returns:
        Shape ``(m1, d2)``.
    """
    result: Tensor = _EdgeMagnitudes.apply(first, blocks, y, s, weight)  # type: ignore[no-untyped-call]
    return result


class _EdgeMagnitudes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, first: IntervalAdjacency, blocks: Blocks, y: Tensor, s: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.first, ctx.blocks = first, blocks
        ctx.save_for_backward(y, s, weight)
        out = y.new_empty(first.pattern.num_rows, weight.shape[1])
        for rows, entries in _slices(blocks):
            hidden = s.index_select(0, first.pattern.row[entries])
            hidden.mul_(y.index_select(0, first.pattern.col[entries]))
            edges = (hidden @ weight).abs_()
            out[rows] = product(_inside(first.pattern, rows, entries), first.width[entries], edges)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor]:
        first, (y, s, weight) = ctx.first, ctx.saved_tensors
        to_y, to_s, to_weight = (torch.zeros_like(x) for x in (y, s, weight))
        for rows, entries in _slices(ctx.blocks):
            row, col = first.pattern.row[entries], first.pattern.col[entries]
            slopes, inputs = s.index_select(0, row), y.index_select(0, col)
            hidden = slopes * inputs
            signed = (
                (hidden @ weight).sign_().mul_(grad.index_select(0, row)).mul_(first.width[entries, None])
            )
            to_weight.addmm_(hidden.T, signed)
            to_hidden = signed @ weight.T
            ones = torch.ones_like(first.width[entries])
            to_s[rows] = product(_inside(first.pattern, rows, entries), ones, to_hidden * inputs)
            to_y.index_add_(0, col, to_hidden.mul_(slopes))
        return None, None, to_y, to_s, to_weight


def _slices(blocks: Blocks) -> list[tuple[slice, slice]]:
    return [(slice(first, end), slice(begin, last)) for first, end, begin, last in blocks]


def _inside(pattern: Pattern, rows: slice, entries: slice) -> Pattern:
    """Sums the edges of a block by their rows."""
    pointer = pattern.rowptr[rows.start : rows.stop + 1] - entries.start
    size = entries.stop - entries.start
    return Pattern(pointer, torch.arange(size, device=pointer.device), size)
