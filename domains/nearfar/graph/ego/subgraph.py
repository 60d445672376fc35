"""What the output of one node of a 2-layer encoder depends on, as a small dense matrix.

Degrees and budgets stay those of the whole graph, so a bound on the ego graph is one on the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.graph.intervals import IntervalAdjacency


@dataclass(frozen=True)
class EgoNodes:
    """The nodes within two hops against the direction of edges.

    Attributes:
        nodes: The node itself, then others within one hop, then those two hops away; int64, shape ``(m,)``.
        num_hidden: How many are within one hop, the node included: their hidden vectors count.
    """

    nodes: Tensor
    num_hidden: int

    @classmethod
    def of(cls, intervals: IntervalAdjacency, node: int) -> EgoNodes:
        """Who a node hears, and who they hear.

        Args:
            intervals: Of the whole graph.
            node: Whose output is looked at.
        """
        hidden = _with_sources(intervals, torch.tensor([node], device=intervals.col.device))
        return cls(_with_sources(intervals, hidden), len(hidden))

    def dense(self, intervals: IntervalAdjacency, values: Tensor) -> Tensor:
        """Values at the entries of the whole graph, as a matrix: what each hidden node hears from each node.

        Args:
            intervals: Of the whole graph.
            values: Shape ``(E,)``.

        Returns:
            Shape ``(num_hidden, m)``.
        """
        part, entries = intervals.pattern.rows(self.nodes[: self.num_hidden])
        ordered, place = self.nodes.sort()
        column = place[torch.searchsorted(ordered, part.col)]
        return values.new_zeros(self.num_hidden, len(self.nodes)).index_put(
            (part.row, column), values[entries]
        )


def _with_sources(intervals: IntervalAdjacency, nodes: Tensor) -> Tensor:
    part, _ = intervals.pattern.rows(nodes)
    sources = part.col.unique()
    return torch.cat([nodes, sources[~torch.isin(sources, nodes)]])
