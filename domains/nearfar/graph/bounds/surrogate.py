r"""The number the published POT program calls compactness; it is *not* a lower bound.

.. math:: \mathrm{score} = \hat A_s^\top (\hat A_s^\top r + c_1) + c_2, \qquad
          r_i = \langle Y_i, s_{1,i} * V_i \rangle, \quad
          c_{1,i} = \langle s_{1,i} * V_i, b_1 \rangle - \langle [V_i]_-, t_{1,i} \rangle

Why it bounds nothing: a node's own first-layer slopes take the place of its neighbours'; the boxes of the second
layer hold the hidden layer fixed at the original graph; it is evaluated at one sampled graph instead of minimised;
and that graph, applied transposed, usually exceeds the budget. On trained encoders it lies above the true score of
that same graph for about half of the nodes. It is here to reproduce published behaviour: it acts much like a logistic
loss on the sampled score.

Restricted to a list of nodes, the program also cuts the edges that lead out of the list (``cut``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.graph.bounds.boxes import heard_points
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.relaxation import activation, relax
from nearfar.graph.intervals import IntervalAdjacency
from nearfar.graph.pattern import Pattern, spmm


def surrogate(
    intervals: IntervalAdjacency,
    encoder: TwoLayers,
    y: Tensor,
    w: Tensor,
    *,
    original: Tensor,
    sampled: Tensor,
    transpose: bool = True,
) -> Tensor:
    """The published score of every node.

    Args:
        intervals: Of n nodes, not tightened.
        encoder: Both layers.
        y: Projected inputs, shape ``(n, d1)``.
        w: Contrast vectors, shape ``(n, d2)``.
        original: Normalised adjacency of the original graph, shape ``(E,)``.
        sampled: That of the augmented one, shape ``(E,)``.
        transpose: Whether to apply it transposed, as published; with edges dropped in one direction only it matters.

    Returns:
        Shape ``(n,)``.
    """
    (_, w2), (b1, b2), pattern = encoder.weights, encoder.biases, intervals.pattern
    s1, t1 = relax(*heard_points(intervals, y, b1).box(), encoder.slopes[0])
    hidden = spmm(pattern, original, y)
    messages = activation(hidden if b1 is None else hidden + b1, encoder.slopes[0]) @ w2
    s2, t2 = relax(*heard_points(intervals, messages, b2).box(), encoder.slopes[1])
    top = s2 * w
    v = top @ w2.T
    c2 = -((-w).relu() * t2).sum(1)
    if b2 is not None:
        c2 = c2 + top @ b2
    own = s1 * v
    c1 = -((-v).relu() * t1).sum(1)
    if b1 is not None:
        c1 = c1 + own @ b1
    r = (y * own).sum(1)
    if transpose:
        pattern, sampled = pattern.transposed, sampled[pattern.to_transposed]
    once = spmm(pattern, sampled, r[:, None])[:, 0] + c1
    return spmm(pattern, sampled, once[:, None])[:, 0] + c2


def cut_out(intervals: IntervalAdjacency, nodes: Tensor) -> tuple[IntervalAdjacency, Tensor]:
    """The bounds among some nodes: edges to others are gone, degrees stay those of the whole graph.

    Args:
        intervals: Of n nodes.
        nodes: int64, shape ``(k,)``.

    Returns:
        The bounds, nodes in the order given, and which entries of the whole these are, shape ``(E',)``.
    """
    pattern = intervals.pattern
    place = torch.full((pattern.num_rows,), -1, dtype=torch.int64, device=nodes.device)
    place[nodes] = torch.arange(len(nodes), device=nodes.device)
    row, col = place[pattern.row], place[pattern.col]
    entries = ((row >= 0) & (col >= 0)).nonzero()[:, 0]
    part, order = Pattern.of(row[entries], col[entries], len(nodes), len(nodes))
    entries = entries[order]
    return intervals.restricted(part, entries, nodes, nodes), entries
