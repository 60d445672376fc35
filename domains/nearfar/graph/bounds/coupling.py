r"""The smallest weighted sum of what a target hears, over the box of entries or over the edges it can lose.

Over the box every entry is chosen for itself: L where the term is positive, else U. But all entries of a row share the
target's own degree, and at most q_i of them can vanish. If r of them do, the degree is known, the worst to lose are the
largest, and only the neighbours' degrees stay free in their ranges:

.. math:: F_i = \min_{0 \le r \le q_i}\; \frac{K - T_r}{\sqrt{\tilde d_i - r}} + \frac{G_{ii}}{\tilde d_i - r}, \qquad
          \kappa_j = \frac{[G_{ij}]_+}{\sqrt{\tilde d_j}} - \frac{[G_{ij}]_-}{\sqrt{\tilde d_j - q_j}}

with K the sum of the :math:`\kappa_j` of a row and :math:`T_r` that of its r largest among those that can vanish. Every
choice lies in the box, so this minimum is never below the box's.

Both are returned as coefficients of the terms: constants, by which the bound and its gradient are one weighted sum
(the envelope theorem).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.graph.intervals import IntervalAdjacency, scale


@torch.no_grad()
def box_coefficients(second: IntervalAdjacency, terms: Tensor) -> Tensor:
    """Values of the entries at which the weighted sums over the box are smallest.

    Args:
        second: n targets, m sources.
        terms: What a target hears from a source, shape ``(E,)``.

    Returns:
        Shape ``(E,)``.
    """
    return torch.where(terms >= 0, second.lower, second.upper)


@torch.no_grad()
def coupled_coefficients(second: IntervalAdjacency, terms: Tensor) -> Tensor:
    """Values of the entries at which the weighted sums are smallest, all entries of a row of one graph's degree.

    Args:
        second: n targets, m sources.
        terms: What a target hears from a source, shape ``(E,)``.

    Returns:
        Shape ``(E,)``.
    """
    pattern, is_self = second.pattern, second.is_self
    row, col, num_rows = pattern.row, pattern.col, pattern.num_rows
    by_source = torch.where(terms >= 0, second.low_scale[col], second.high_scale[col]).double()
    by_source = by_source.masked_fill(is_self, 1)
    kappa = by_source * terms.double()
    # Rows side by side, in each the largest of what can vanish first. Sums over all rows need float64.
    order = torch.where(second.removable, -kappa, torch.inf).argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    ordered = kappa[order].masked_fill_(~second.removable[order], 0)
    running = ordered.cumsum(0)
    before = (running - ordered)[pattern.rowptr[:-1].clamp(max=max(len(col) - 1, 0))]
    lost = torch.empty_like(kappa).scatter_(0, order, running) - before[row]
    number = torch.empty_like(row).scatter_(0, order, torch.arange(len(row), device=row.device))
    number = number - pattern.rowptr[row] + 1  # an entry's place among those of its row: with it r are gone

    total = kappa.new_zeros(num_rows).index_add_(0, row, kappa.masked_fill(is_self, 0))
    own = kappa.new_zeros(num_rows).index_add_(0, row, kappa.masked_fill(~is_self, 0))

    def value(rows: Tensor | slice, r: Tensor | int, gone: Tensor | int) -> Tensor:
        factor = scale(second.degree[rows] - r, second.norm, torch.float64)
        return (total[rows] - gone) * factor + own[rows] * (factor * factor)

    best = value(slice(None), 0, 0)
    allowed = second.removable & (number <= second.budget[row])
    values = value(row, number, lost).masked_fill_(~allowed, torch.inf)
    least = best.scatter_reduce(0, row, values, "amin")
    reaches = torch.where(values <= least[row], number, len(row) + 1)
    chosen = torch.full_like(second.degree, len(row) + 1).scatter_reduce_(0, row, reaches, "amin")
    chosen = torch.where(best <= least, 0, chosen)
    factor = scale(second.degree - chosen, second.norm, torch.float64)[row]
    values = torch.where(is_self, factor * factor, factor * by_source)
    return values.masked_fill_(second.removable & (number <= chosen[row]), 0).to(terms.dtype)
