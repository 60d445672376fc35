r"""Node compactness, soundly: a lower bound of a node's contrast over every graph within the budget.

.. math:: f_i(\hat A) = \langle z_i(\hat A), w_i \rangle \ge c_i + \sum_j \hat A_{ij}\, g_{ij}(\hat A), \qquad
          g_{ij} = \langle H_j(\hat A), V_i \rangle, \quad V = (s_2 * w) W_2^\top, \quad
          c = \langle s_2 * w, b_2 \rangle - \langle [w]_-, t_2 \rangle

In order: (1) boxes of every number by interval arithmetic; (2) tighter boxes of the messages, edge by edge; (3) the
activation on top relaxed to lines; (4) for every edge the least its source can send, by the boxes of the messages and
by paths; (5) the smallest sum a node can be left with. The result is the larger of that and of what the boxes alone
give. Each step takes a minimum over a superset of the real graphs, so the result is a bound; gradients are those of
the value found (constants where an argmin was taken).

The published program evaluates a related expression that is no bound: :mod:`nearfar.graph.bounds.surrogate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nearfar.graph.bounds.boxes import Box, activated, heard, heard_points, lowest_score, through
from nearfar.graph.bounds.coupling import box_coefficients, coupled_coefficients
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.hops import Hops
from nearfar.graph.bounds.paths import path_terms
from nearfar.graph.bounds.relaxation import Lines, relax
from nearfar.graph.bounds.rows import by_rows
from nearfar.graph.bounds.tightening import relaxed_messages
from nearfar.graph.pattern import row_sums, sddmm


class Top(NamedTuple):
    """The score as a linear function of what targets hear, at least (step 3).

    Attributes:
        scaled: Its coefficients by message, ``s_2 * w``, shape ``(n, d2)``.
        v: By hidden activation, shape ``(n, d1)``.
        constant: Shape ``(n,)``.
        ibp: What the boxes alone give, shape ``(n,)``.
    """

    scaled: Tensor
    v: Tensor
    constant: Tensor
    ibp: Tensor


@dataclass(frozen=True)
class Relaxation:
    """Steps 1 to 3 for one encoder, graph and set of targets.

    Attributes:
        hops: n targets, m1 hidden nodes, m0 inputs.
        y: Projected inputs X W_1, shape ``(m0, d1)``.
        hidden: Lines around the hidden activations, shape ``(m1, d1)``.
        messages: Boxes of what hidden nodes send, after the second weight, shape ``(m1, d2)``.
        top: Of the targets.
    """

    hops: Hops
    y: Tensor
    hidden: Lines
    messages: Box
    top: Top

    @classmethod
    def of(cls, hops: Hops, encoder: TwoLayers, y: Tensor, w: Tensor, *, tighten: bool = True) -> Relaxation:
        """Relax an encoder.

        Args:
            hops: n targets, m1 hidden nodes, m0 inputs.
            encoder: Both layers.
            y: Projected inputs, shape ``(m0, d1)``.
            w: Contrast vectors of the targets, shape ``(n, d2)``.
            tighten: Whether to take step 2.
        """
        (_, weight), (b1, b2), (slope1, slope2) = encoder.weights, encoder.biases, encoder.slopes
        magnitude = weight.abs()

        def hidden_layer(middle: Tensor, radius: Tensor) -> tuple[Tensor, ...]:
            box = Box(middle - radius, middle + radius)
            return *relax(*box, slope1), *through(activated(box, slope1), weight, magnitude)

        def output_layer(low: Tensor, high: Tensor, w: Tensor) -> tuple[Tensor, ...]:
            s, t = relax(low, high, slope2)
            scaled, constant = s * w, -((-w).relu() * t).sum(1)
            if b2 is not None:
                constant = constant + scaled @ b2
            return scaled, scaled @ weight.T, constant, lowest_score(activated(Box(low, high), slope2), w)

        heard_inputs = heard_points(hops.first, y, b1)
        s, t, *ball = by_rows(hidden_layer, *heard_inputs)
        hidden = Lines(heard_inputs.middle, s, t)
        del heard_inputs
        if tighten:
            ball += relaxed_messages(hops.first, hops.blocks, y, hidden, weight)
        messages = Box(*by_rows(_intersection, *ball))
        del ball
        top = Top(*by_rows(output_layer, *heard(hops.second, messages, b2), w))
        return cls(hops, y, hidden, messages, top)

    def message_terms(self) -> Tensor:
        """Step 4 by the boxes of the messages, shape ``(E,)``."""
        pattern, scaled = self.hops.second.pattern, self.top.scaled
        low, high = self.messages
        return sddmm(pattern, scaled.relu(), low) - sddmm(pattern, (-scaled).relu(), high)

    def path_terms(self) -> Tensor:
        """Step 4 by paths, shape ``(E,)``; minus infinity from hubs."""
        return path_terms(self.hops, self.y, self.hidden, self.top.v)

    def from_terms(self, terms: Tensor, *, coupled: bool = True) -> Tensor:
        """Step 5.

        Args:
            terms: Least that a target can hear from a source, shape ``(E,)``.
            coupled: Whether the entries of a row share its degree; else each is free in its interval.

        Returns:
            Shape ``(n,)``.
        """
        coefficients = (coupled_coefficients if coupled else box_coefficients)(self.hops.second, terms)
        return self.top.constant + row_sums(self.hops.second.pattern, coefficients * terms)


def certified(relaxation: Relaxation) -> Tensor:
    """The tightest bound here, shape ``(n,)``.

    Args:
        relaxation: With step 2.
    """
    terms = torch.maximum(relaxation.message_terms(), relaxation.path_terms())
    return torch.maximum(relaxation.top.ibp, relaxation.from_terms(terms))


def _intersection(middle: Tensor, radius: Tensor, *other: Tensor) -> tuple[Tensor, Tensor]:
    low, high = middle - radius, middle + radius
    if other:
        low, high = torch.maximum(low, other[0] - other[1]), torch.minimum(high, other[0] + other[1])
    return low, high
