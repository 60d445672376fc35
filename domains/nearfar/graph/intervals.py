r"""Element-wise bounds of the normalised adjacency over all graphs that lose at most q_i edges at node i.

.. math:: 0 \le L \le \hat A \le U, \qquad U_{ij} = \frac{1}{\sqrt{(\tilde d_i - q_i)(\tilde d_j - q_j)}}, \quad
          L_{ii} = \frac{1}{\tilde d_i}, \quad L_{ij} = 0

for the GCN normalisation with self loops, where :math:`\tilde d` is the in-degree plus one (POT, Yu et al., NeurIPS
2023). An edge that no allowed augmentation can remove has :math:`L_{ij} = 1 / \sqrt{\tilde d_i \tilde d_j}`
(``tight``; the published bound leaves it at 0). Everything lives on the edges: no n x n object is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.checks import check_edges
from nearfar.graph.pattern import Pattern, row_pointer, row_sums
from nearfar.runtime import to_device

Norm: TypeAlias = Literal["gcn", "mean", "sum"]


@dataclass(frozen=True, eq=False)
class IntervalAdjacency:
    """Bounds of every entry of a normalised adjacency, of n targets (rows) that hear m sources (columns).

    Degrees and budgets are those of the whole graph, also where rows or columns are only a part of it.

    Attributes:
        pattern: Where entries are: edges, and for ``gcn`` the nodes themselves.
        lower: L, shape ``(E,)``.
        upper: U, shape ``(E,)``.
        is_self: Entries from a node to itself, bool, shape ``(E,)``.
        removable: Entries that an allowed augmentation may remove, bool, shape ``(E,)``.
        degree: Of every target, itself included for ``gcn``, shape ``(n,)``.
        budget: Edges that every target may lose, shape ``(n,)``.
        low_scale: Smallest factor an entry has from its source, shape ``(m,)``.
        high_scale: Largest, shape ``(m,)``.
        norm: ``gcn``, ``mean`` or ``sum``.
        certain: Pattern of the entries of L that are not zero.
        certain_values: Their values, shape ``(E',)``.
    """

    pattern: Pattern
    lower: Tensor
    upper: Tensor
    is_self: Tensor
    removable: Tensor
    degree: Tensor
    budget: Tensor
    low_scale: Tensor
    high_scale: Tensor
    norm: Norm
    certain: Pattern
    certain_values: Tensor

    @property
    def rowptr(self) -> Tensor:
        """As of :class:`Pattern`, shape ``(n + 1,)``."""
        return self.pattern.rowptr

    @property
    def col(self) -> Tensor:
        """As of :class:`Pattern`, shape ``(E,)``."""
        return self.pattern.col

    @cached_property
    def width(self) -> Tensor:
        """U - L, shape ``(E,)``."""
        return self.upper - self.lower

    def rows(self, targets: Tensor) -> tuple[IntervalAdjacency, Tensor, Tensor]:
        """The bounds of some targets, over the sources they hear.

        Args:
            targets: Rows, each once, int64, shape ``(k,)``.

        Returns:
            The bounds; the sources, columns of the whole, ascending, shape ``(m',)``; and which entries of the whole
            these are, shape ``(E',)``.
        """
        part, entries = self.pattern.rows(targets)
        sources, col = part.col.unique(return_inverse=True)
        pattern = Pattern(part.rowptr, col, len(sources))
        return self.restricted(pattern, entries, targets, sources), sources, entries

    def restricted(
        self, pattern: Pattern, entries: Tensor, targets: Tensor, sources: Tensor
    ) -> IntervalAdjacency:
        """Some entries, in another pattern.

        Args:
            pattern: Where they are now.
            entries: Which ones, in that order, int64, shape ``(E',)``.
            targets: What its rows are here, shape ``(k,)``.
            sources: What its columns are here, shape ``(m',)``.
        """
        return _with_certain(
            pattern=pattern,
            lower=self.lower[entries],
            upper=self.upper[entries],
            is_self=self.is_self[entries],
            removable=self.removable[entries],
            degree=self.degree[targets],
            budget=self.budget[targets],
            low_scale=self.low_scale[sources],
            high_scale=self.high_scale[sources],
            norm=self.norm,
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> IntervalAdjacency:
        """The same bounds elsewhere or in another precision."""
        moved = to_device(self, torch.device(device)) if device is not None else self
        if dtype in (None, self.lower.dtype):
            return moved
        numbers = ("lower", "upper", "low_scale", "high_scale", "certain_values")
        return replace(moved, **{name: getattr(moved, name).to(dtype) for name in numbers})


def _with_certain(**parts: Any) -> IntervalAdjacency:
    entries = parts["lower"].nonzero()[:, 0]
    return IntervalAdjacency(
        **parts, certain=parts["pattern"].kept(entries), certain_values=parts["lower"][entries]
    )


def edge_interval(
    edge_index: Tensor,
    num_nodes: int,
    q: Tensor,
    norm: Norm = "gcn",
    *,
    directed: bool = True,
    tight: bool = True,
    dtype: torch.dtype = torch.float32,
) -> IntervalAdjacency:
    """Bounds of the normalised adjacency under a budget of edges per node.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64; no self loops, no edge twice.
        num_nodes: Number of nodes n.
        q: Most edges removed among those that point to a node, whole numbers, shape ``(n,)``.
        norm: ``gcn`` (symmetric, with self loops), ``mean`` of the neighbours, or their ``sum``.
        directed: Whether the two directions of an edge are removed independently (as ``dropout_edge`` does); else
            both go together, which needs a symmetric ``edge_index``.
        tight: Whether an edge that cannot be removed counts as present.
        dtype: Of the bounds.

    Raises:
        DataError: If edges or budgets are not as described.
        ConfigError: If the norm is unknown.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> bounds = edge_interval(edges, 3, torch.tensor([0, 1, 0]))
        >>> bounds.col.tolist(), bounds.lower.gt(0).tolist()  # node 1 may lose an edge, the others not
        ([0, 1, 0, 1, 2, 1, 2], [True, True, False, True, False, True, True])
    """
    if norm not in get_args(Norm):
        raise ConfigError(f"norm: one of {', '.join(get_args(Norm))} expected, got {norm!r}")
    check_edges(edge_index, num_nodes)
    degree = row_pointer(edge_index[1], num_nodes).diff()
    q = checked_budget(q, degree).to(edge_index.device)
    pattern, is_self = neighbourhoods(edge_index, num_nodes, self_loops=norm == "gcn")
    row, col = pattern.row, pattern.col
    if norm == "gcn":
        degree = degree + 1
    if not directed and not pattern.is_symmetric:
        raise DataError(
            "directed=False: edge_index has edges without their reverse; add them with "
            "torch_geometric.utils.to_undirected, or use directed=True"
        )
    may_lose = q > 0
    removable = ~is_self & may_lose[row] & (may_lose[col] if not directed else True)
    low_row, high_row = scale(degree, norm, dtype), scale(degree - q, norm, dtype)
    ones = torch.ones_like(low_row)
    low_col, high_col = (low_row, high_row) if norm == "gcn" else (ones, ones)
    lower = (low_row[row] * low_col[col]).masked_fill(removable if tight else ~is_self, 0)
    return _with_certain(
        pattern=pattern,
        lower=lower,
        upper=high_row[row] * high_col[col],
        is_self=is_self,
        removable=removable if tight else ~is_self,
        degree=degree,
        budget=q,
        low_scale=low_col,
        high_scale=high_col,
        norm=norm,
    )


def scale(degree: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    """What a target of a degree multiplies its entries with.

    Args:
        degree: Shape ``(n,)``.
        norm: As of :func:`edge_interval`.
        dtype: Of the result.
    """
    degree = degree.clamp(min=1).to(dtype)
    if norm == "gcn":
        return degree.rsqrt()
    return degree.reciprocal() if norm == "mean" else torch.ones_like(degree)


def neighbourhoods(edge_index: Tensor, num_nodes: int, *, self_loops: bool) -> tuple[Pattern, Tensor]:
    """Every node's sources, with itself or without.

    Args:
        edge_index: Shape ``(2, E)``.
        num_nodes: Number of nodes.
        self_loops: Whether a node is a source of itself.

    Returns:
        The pattern, and which of its entries are self loops, bool, shape ``(E + n,)`` or ``(E,)``.
    """
    source, target = edge_index
    if self_loops:
        nodes = torch.arange(num_nodes, device=edge_index.device)
        source, target = torch.cat([source, nodes]), torch.cat([target, nodes])
    pattern, _ = Pattern.of(target, source, num_nodes, num_nodes)
    return pattern, pattern.row == pattern.col


def normalised(intervals: IntervalAdjacency, kept: Tensor, dtype: torch.dtype) -> Tensor:
    """Values of the normalised adjacency of one augmented graph, at the entries of the whole graph.

    Args:
        intervals: Of the whole graph.
        kept: Entries that are still there, bool, shape ``(E,)``.
        dtype: Of the result.

    Returns:
        Zero where an edge is gone, shape ``(E,)``.
    """
    pattern, present = intervals.pattern, kept.to(dtype)
    degree = row_sums(pattern, present)
    by_row = scale(degree, intervals.norm, dtype)
    values = present * by_row[pattern.row]
    return values * by_row[pattern.col] if intervals.norm == "gcn" else values


def kept_entries(intervals: IntervalAdjacency, edge_index: Tensor) -> Tensor:
    """Which entries of the whole graph an augmented graph still has; self loops always.

    Args:
        intervals: Of the whole graph, n nodes.
        edge_index: Edges of the augmented graph, some of the whole graph's, shape ``(2, K)``.

    Returns:
        bool, shape ``(E,)``.

    Raises:
        DataError: If it has an edge the whole graph has not.
    """
    pattern = intervals.pattern
    source, target = edge_index
    place = pattern.places(target, source)
    absent = (pattern.row[place] != target) | (pattern.col[place] != source)
    if bool(absent.any()):
        strange = int(absent.nonzero()[0, 0])
        raise DataError(
            f"the augmented graph has the edge {int(source[strange])} -> {int(target[strange])}, which edge_index has "
            "not: bounds hold for graphs that lose edges, not for others"
        )
    return intervals.is_self.index_fill(0, place, True)


def checked_budget(q: Tensor, degree: Tensor) -> Tensor:
    """``q`` as int64, or an error that names the node.

    Args:
        q: Whole numbers, shape ``(n,)``.
        degree: Edges that point to every node, shape ``(n,)``.

    Raises:
        DataError: If shape, type or a value is wrong.
    """
    if not isinstance(q, Tensor) or q.shape != degree.shape or q.is_floating_point() or q.dtype == torch.bool:
        got = f"{q.dtype} of shape {tuple(q.shape)}" if isinstance(q, Tensor) else repr(q)
        raise DataError(f"q: whole numbers of shape {tuple(degree.shape)} expected, got {got}")
    q = q.long().to(degree.device)
    wrong = ((q < 0) | (q > degree)).nonzero()
    if len(wrong):
        node = int(wrong[0, 0])
        raise DataError(
            f"q: node {node} has {int(degree[node])} edges that point to it, its budget is {int(q[node])}; "
            "0 to that number expected"
        )
    return q
