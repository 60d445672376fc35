r"""What can be said at one given augmented graph: the score itself, and the value of its linear relaxation.

.. math:: f_i(\hat A) \ge c_i + \langle V_i, (\hat A\,(s_1 * (\hat A Y + b_1)))_i \rangle
          - \langle [V_i]_-, (\hat A t_1)_i \rangle

with slopes and offsets from the boxes over *all* graphs within the budget: POT's theorem (Yu et al., NeurIPS 2023),
each neighbour relaxed with its own slopes. It bounds the score at this graph only.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.graph.bounds.certified import Relaxation
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.hops import Hops, View
from nearfar.graph.bounds.relaxation import activation
from nearfar.graph.pattern import spmm


def embeddings(hops: Hops, encoder: TwoLayers, y: Tensor, view: View) -> Tensor:
    """The encoder's output at the targets, shape ``(n, d2)``.

    Args:
        hops: n targets, m0 inputs.
        encoder: Both layers.
        y: Projected inputs, shape ``(m0, d1)``.
        view: The graph.
    """
    b1, b2 = encoder.biases
    hidden = spmm(hops.first.pattern, view.first, y)
    hidden = activation(hidden if b1 is None else hidden + b1, encoder.slopes[0])
    output = spmm(hops.second.pattern, view.second, hidden @ encoder.weights[1])
    return activation(output if b2 is None else output + b2, encoder.slopes[1])


def score_at(hops: Hops, encoder: TwoLayers, y: Tensor, w: Tensor, view: View) -> Tensor:
    """The score itself: mode ``sampled``.

    Args:
        hops: n targets, m0 inputs.
        encoder: Both layers.
        y: Projected inputs, shape ``(m0, d1)``.
        w: Contrast vectors, shape ``(n, d2)``.
        view: The graph.

    Returns:
        Shape ``(n,)``.
    """
    return (embeddings(hops, encoder, y, view) * w).sum(1)


def relaxed_at(relaxation: Relaxation, bias: Tensor | None, view: View) -> Tensor:
    """The relaxation's value at a graph, shape ``(n,)``.

    Args:
        relaxation: Of the graphs within the budget.
        bias: Of the first layer, shape ``(d1,)``.
        view: One of them.
    """
    hops, (_, slope, offset), top = relaxation.hops, relaxation.hidden, relaxation.top
    hidden = spmm(hops.first.pattern, view.first, relaxation.y)
    lines = slope * (hidden if bias is None else hidden + bias)
    pattern = hops.second.pattern
    heard_lines, heard_offsets = spmm(pattern, view.second, lines), spmm(pattern, view.second, offset)
    return top.constant + (top.v * heard_lines).sum(1) - ((-top.v).relu() * heard_offsets).sum(1)
