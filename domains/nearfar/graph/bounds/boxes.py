r"""Interval arithmetic through the layers (IBP): the smallest and the largest every number can be.

For :math:`0 \le L \le \hat A \le U` and :math:`y^- \le y \le y^+` the product is bounded entry by entry,

.. math:: L\,[y^-]_+ - U\,[y^-]_- \;\le\; \hat A y \;\le\; U\,[y^+]_+ - L\,[y^+]_-

with :math:`x = [x]_+ - [x]_-`. For a point y that is the middle :math:`\frac12 (L + U) y` and the radius
:math:`\frac12 (U - L) |y|`. Through a matrix W an interval of middle m and radius r becomes that of middle m W and
radius r |W| (Gowal et al., ICCV 2019).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nearfar.graph.bounds.relaxation import Slope, activation
from nearfar.graph.intervals import IntervalAdjacency
from nearfar.graph.pattern import spmm

# Columns worked on at a time where no gradient is wanted, so that temporaries stay small beside the operands.
_COLUMNS = 32


class Box(NamedTuple):
    """Smallest and largest values, each of shape ``(n, d)``."""

    low: Tensor
    high: Tensor


class Ball(NamedTuple):
    """Middle and radius of intervals, each of shape ``(n, d)``."""

    middle: Tensor
    radius: Tensor

    def box(self) -> Box:
        """Its ends."""
        return Box(self.middle - self.radius, self.middle + self.radius)


def heard_points(adjacency: IntervalAdjacency, y: Tensor, bias: Tensor | None) -> Ball:
    """What targets hear from sources at known values, and a bias.

    Args:
        adjacency: n targets, m sources.
        y: Of the sources, shape ``(m, d)``.
        bias: Shape ``(d,)``; ``None`` is zero.

    Returns:
        Shape ``(n, d)``.
    """
    half_sum, half_width = (adjacency.lower + adjacency.upper) / 2, adjacency.width / 2

    def some(y: Tensor) -> tuple[Tensor, Tensor]:
        return spmm(adjacency.pattern, half_sum, y), spmm(adjacency.pattern, half_width, y.abs())

    middle, radius = _by_columns(some, adjacency, y)
    return Ball(middle if bias is None else middle + bias, radius)


def heard(adjacency: IntervalAdjacency, box: Box, bias: Tensor | None) -> Box:
    """What targets hear from sources within a box, and a bias.

    Args:
        adjacency: n targets, m sources.
        box: Of the sources, shape ``(m, d)``.
        bias: Shape ``(d,)``; ``None`` is zero.

    Returns:
        Shape ``(n, d)``.
    """
    # L has few entries beside its diagonal, so products with it are cheap.
    upper, certain = (adjacency.pattern, adjacency.upper), (adjacency.certain, adjacency.certain_values)

    def some(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        return (
            spmm(*certain, low.relu()) - spmm(*upper, (-low).relu()),
            spmm(*upper, high.relu()) - spmm(*certain, (-high).relu()),
        )

    low, high = _by_columns(some, adjacency, *box)
    return Box(low, high) if bias is None else Box(low + bias, high + bias)


def through(box: Box, weight: Tensor, magnitude: Tensor) -> Ball:
    """A box after a linear map.

    Args:
        box: Shape ``(n, d)``.
        weight: Shape ``(d, e)``.
        magnitude: Its absolute values, shape ``(d, e)``.

    Returns:
        Shape ``(n, e)``.
    """
    return Ball((box.low + box.high) @ weight / 2, (box.high - box.low) @ magnitude / 2)


def activated(box: Box, slope: Slope) -> Box:
    """A box after the activation, which is monotone.

    Args:
        box: Shape ``(n, d)``.
        slope: In [0, 1].
    """
    return Box(activation(box.low, slope), activation(box.high, slope))


def lowest_score(z: Box, w: Tensor) -> Tensor:
    """Smallest product with the contrast vectors.

    Args:
        z: Embeddings, shape ``(n, d)``.
        w: Contrast vectors, shape ``(n, d)``.

    Returns:
        Shape ``(n,)``.
    """
    return (w.relu() * z.low - (-w).relu() * z.high).sum(1)


def _by_columns(function: Any, adjacency: IntervalAdjacency, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Two results of sparse products, a few columns at a time where no gradient is wanted."""
    width = inputs[0].shape[1]
    if width <= _COLUMNS or inputs[0].is_cuda or (torch.is_grad_enabled() and inputs[0].requires_grad):
        first, second = function(*inputs)
        return first, second
    first, second = (inputs[0].new_empty(adjacency.pattern.num_rows, width) for _ in range(2))
    for begin in range(0, width, _COLUMNS):
        part = slice(begin, begin + _COLUMNS)
        first[:, part], second[:, part] = function(*(x[:, part] for x in inputs))
    return first, second
