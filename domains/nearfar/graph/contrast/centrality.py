r"""How central nodes are, by which GCA (Zhu et al., WWW 2021, section 3.2) decides which edges to keep.

With A the adjacency matrix, row = target, and d its column sums (out-degrees):

.. math:: c^{\mathrm{degree}} = A\,1, \qquad
          c^{\mathrm{pr}}: x \leftarrow 0.15\, x + 0.85\, A\, d^{-1} x, \qquad
          c^{\mathrm{evc}}: A\, x = \lambda_{\max} x

PageRank is that of the official code: a multiple of the previous x is added, where Page et al. add a constant. On
connected undirected graphs it tends to the degree.

Differs from the official code: the eigenvector is found by iterating A + I, which has the same one and, unlike A,
converges on bipartite graphs; the official code asks a dense or sparse eigensolver.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError

Centrality: TypeAlias = Literal["degree", "pr", "evc"]

# Added by the official code to eigenvector centralities; here also the smallest share of the largest centrality.
_LEAST = 1e-8
# Power iterations between two looks at how far they have come, which on a GPU have to be waited for.
_STRIDE = 10


def degree_centrality(edge_index: Tensor, num_nodes: int) -> Tensor:
    """In-degree of every node.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        num_nodes: Nodes of the graph, n.

    Returns:
        float64, shape ``(n,)``; 0 where no edge ends.

    Raises:
        DataError: If the edges are not as described.

    Example:
        >>> degree_centrality(torch.tensor([[0, 1, 2], [1, 2, 1]]), 4).tolist()
        [0.0, 2.0, 1.0, 0.0]
    """
    _check(edge_index, num_nodes)
    return _count(edge_index[1], num_nodes)


def pagerank_centrality(
    edge_index: Tensor, num_nodes: int, *, damping: float = 0.85, steps: int = 200
) -> Tensor:
    """PageRank in the form of GCA's official code, from ones.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        num_nodes: Nodes of the graph, n.
        damping: Share that comes along the edges.
        steps: Iterations.

    Returns:
        float64, shape ``(n,)``; next to 0 where no edge ends.

    Raises:
        DataError: If the edges are not as described.

    Example:
        >>> star = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
        >>> [round(x, 3) for x in pagerank_centrality(star, 3).tolist()]  # 3 / 4 of the degrees
        [1.5, 0.75, 0.75]
    """
    _check(edge_index, num_nodes)
    source, target = edge_index
    share = damping / _count(source, num_nodes).clamp(min=1)
    x = torch.ones_like(share)
    for _ in range(steps):
        x = ((1 - damping) * x).index_add_(0, target, (share * x)[source])
    return x


def eigenvector_centrality(
    edge_index: Tensor, num_nodes: int, *, tolerance: float = 1e-10, steps: int = 10_000
) -> Tensor:
    """Eigenvector of the largest eigenvalue, of length 1, plus 1e-8.

    In a graph of several components that of the densest one: all others are 0, and 1e-8 is what they get.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        num_nodes: Nodes of the graph, n.
        tolerance: Iterations end when no entry moves by more.
        steps: Most iterations; what is reached by then is returned. Cora needs 110, a path of 1000 nodes, whose
            largest eigenvalues differ by 1e-5, more than 10,000.

    Returns:
        float64, shape ``(n,)``, at least 1e-8.

    Raises:
        DataError: If the edges are not as described.

    Example:
        >>> star = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
        >>> [round(x, 4) for x in eigenvector_centrality(star, 3).tolist()]  # root of 1/2, twice root of 1/4
        [0.7071, 0.5, 0.5]
    """
    _check(edge_index, num_nodes)
    source, target = edge_index
    x = torch.full((num_nodes,), num_nodes**-0.5, dtype=torch.float64, device=edge_index.device)
    for step in range(1, steps + 1):
        before = x
        x = x.index_add(0, target, x[source])
        x = x / x.norm()
        if step % _STRIDE == 0 and float((x - before).abs().amax()) < tolerance:
            break
    return x.clamp(min=0) + _LEAST


def centrality(kind: Centrality, edge_index: Tensor, num_nodes: int) -> Tensor:
    """Positive importance of every node, for :func:`nearfar.augment.graphs.edge_drop_probability`.

    What is below 1e-8 of the largest is raised to that: nodes at which no edge ends, of which no edge can ask, and,
    by PageRank of directed graphs, those that only such nodes lead to.

    Args:
        kind: ``degree``, ``pr`` (PageRank) or ``evc`` (eigenvector).
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        num_nodes: Nodes of the graph, n.

    Returns:
        float64, shape ``(n,)``; ones if there are no edges.

    Raises:
        ConfigError: If ``kind`` is none of the three.
        DataError: If the edges are not as described.

    Example:
        >>> centrality("degree", torch.tensor([[0, 1, 2], [1, 2, 1]]), 3).tolist()
        [2e-08, 2.0, 1.0]
    """
    kinds = {"degree": degree_centrality, "pr": pagerank_centrality, "evc": eigenvector_centrality}
    if kind not in kinds:
        raise ConfigError(f"centrality: {', '.join(get_args(Centrality))} expected, got {kind!r}")
    values = kinds[kind](edge_index, num_nodes)
    if edge_index.shape[1] == 0:
        return torch.ones_like(values)
    return torch.maximum(values, _LEAST * values.amax())


def _count(nodes: Tensor, num_nodes: int) -> Tensor:
    ones = torch.ones(len(nodes), dtype=torch.float64, device=nodes.device)
    return torch.zeros(num_nodes, dtype=torch.float64, device=nodes.device).index_add_(0, nodes, ones)


def _check(edge_index: Tensor, num_nodes: int) -> None:
    if edge_index.dtype != torch.int64 or edge_index.dim() != 2 or len(edge_index) != 2:
        raise DataError(
            f"edge_index: int64 of shape (2, E) expected, got {edge_index.dtype} of {tuple(edge_index.shape)}"
        )
    if num_nodes < 1:
        raise DataError(f"num_nodes: at least 1 expected, got {num_nodes}")
    # Reading values elsewhere would stop the device.
    if edge_index.device.type == "cpu" and edge_index.numel():
        low, high = int(edge_index.min()), int(edge_index.max())
        if not 0 <= low <= high < num_nodes:
            raise DataError(
                f"edge_index: nodes from 0 to {num_nodes - 1} expected (num_nodes is {num_nodes}), got {low} to {high}"
            )
