"""Centralities against explicit loops and dense eigenvectors, and the drop probabilities they lead to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.augment.graphs import edge_drop_probability
from nearfar.errors import ConfigError, DataError
from nearfar.graph.contrast.centrality import (
    Centrality,
    centrality,
    degree_centrality,
    eigenvector_centrality,
    pagerank_centrality,
)

KINDS: list[Centrality] = ["degree", "pr", "evc"]


def both_ways(*pairs: tuple[int, int]) -> Tensor:
    one = torch.tensor(pairs).T
    return torch.cat([one, one.flip(0)], 1)


def random_graph(n: int, seed: int, *, directed: bool) -> Tensor:
    """About four edges a node, the last node without any."""
    dense = torch.rand(n - 1, n - 1, generator=torch.Generator().manual_seed(seed)) < 4 / n
    dense.fill_diagonal_(fill_value=False)
    return (dense if directed else dense | dense.T).nonzero().T.contiguous()


def adjacency(edge_index: Tensor, n: int) -> NDArray[np.float64]:
    """Row = target."""
    dense = np.zeros((n, n))
    for source, target in edge_index.T.tolist():
        dense[target, source] += 1
    return dense


def test_degree_counts_what_arrives() -> None:
    edges = random_graph(20, 0, directed=True)
    assert degree_centrality(edges, 20).tolist() == adjacency(edges, 20).sum(1).tolist()


@pytest.mark.parametrize("directed", [False, True])
def test_pagerank_is_the_recursion_from_ones(directed: bool) -> None:
    n = 15
    edges = random_graph(n, 1, directed=directed)
    out_degree = [edges[0].tolist().count(i) for i in range(n)]
    x = [1.0] * n
    for _ in range(200):
        moved = [0.0] * n
        for source, target in edges.T.tolist():
            moved[target] += x[source] / out_degree[source]
        x = [0.15 * old + 0.85 * new for old, new in zip(x, moved, strict=True)]
    assert pagerank_centrality(edges, n).tolist() == pytest.approx(x, rel=1e-12, abs=1e-300)


def test_pagerank_of_a_connected_undirected_graph_is_its_degree() -> None:
    edges = both_ways((0, 1), (1, 2), (2, 0), (2, 3), (3, 4))
    degree = degree_centrality(edges, 5)
    torch.testing.assert_close(pagerank_centrality(edges, 5), degree * 5 / degree.sum())


@pytest.mark.parametrize(
    ("edges", "n"),
    [
        (random_graph(30, 2, directed=False), 30),
        (both_ways((0, 1), (0, 2), (0, 3)), 4),  # bipartite: A itself goes back and forth
        (both_ways((0, 1), (1, 2), (2, 3), (3, 4)), 5),
        (torch.tensor([[0, 1, 2, 0, 3, 1], [1, 2, 0, 2, 1, 3]]), 4),  # directed, strongly connected
        (torch.tensor([[0, 1], [1, 0]]).repeat(1, 2), 2),  # every edge twice
    ],
    ids=["random", "star", "path", "directed", "multiple"],
)
def test_eigenvector_is_that_of_the_dense_matrix(edges: Tensor, n: int) -> None:
    values, vectors = np.linalg.eig(adjacency(edges, n))
    wanted = np.real(vectors[:, np.real(values).argmax()])
    wanted = np.maximum(wanted * np.sign(wanted.sum()), 0) + 1e-8
    assert eigenvector_centrality(edges, n).tolist() == pytest.approx(wanted.tolist(), abs=1e-8)


def test_only_the_densest_component_has_an_eigenvector_centrality() -> None:
    edges = both_ways((0, 1), (0, 2), (1, 2), (3, 4))  # a triangle and an edge
    expected = [3**-0.5 + 1e-8] * 3 + [1e-8] * 2
    assert eigenvector_centrality(edges, 5).tolist() == pytest.approx(expected, abs=1e-10)


def test_power_iteration_stops_where_it_is_told_to() -> None:
    n = 400
    path = both_ways(*((i, i + 1) for i in range(n - 1)))
    some, more = (eigenvector_centrality(path, n, steps=steps) for steps in (100, 4000))
    exact = torch.sin(math.pi * torch.arange(1, n + 1).double() / (n + 1)) * (2 / (n + 1)) ** 0.5
    assert (more - exact).abs().amax() < (some - exact).abs().amax() / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("directed", [False, True])
def test_every_graph_gives_drop_probabilities(kind: Centrality, directed: bool) -> None:
    for seed in range(5):
        edges = random_graph(12, seed, directed=directed)
        importance = centrality(kind, edges, 12)
        assert importance.shape == (12,)
        assert importance.dtype == torch.float64
        assert importance.amin() > 0
        p = edge_drop_probability(edges, importance, p=0.3)
        assert p.isfinite().all()
        assert 0 <= p.amin() <= p.amax() <= 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_where_no_edge_ends_do_not_change_a_probability(kind: Centrality) -> None:
    edges = random_graph(10, 3, directed=False)
    alone, beside = centrality(kind, edges, 10), centrality(kind, edges, 500)
    p, q = (edge_drop_probability(edges, importance, p=0.3) for importance in (alone, beside))
    torch.testing.assert_close(p, q, atol=1e-7, rtol=0)


def test_drop_probabilities_of_the_official_recipe() -> None:
    edges = both_ways((0, 1), (0, 2), (0, 3), (2, 3))
    degree = [3.0, 1.0, 2.0, 2.0]
    score = np.log([degree[target] for target in edges[1].tolist()])
    weight = (score.max() - score) / (score.max() - score.mean())
    expected = np.minimum(weight / weight.mean() * 0.3, 0.7)
    p = edge_drop_probability(edges, centrality("degree", edges, 4), p=0.3)
    assert p.tolist() == pytest.approx(expected.tolist())


def test_a_graph_without_edges() -> None:
    empty = torch.empty(2, 0, dtype=torch.int64)
    for kind in KINDS:
        assert centrality(kind, empty, 3).tolist() == [1.0] * 3


def test_refusals_name_the_argument() -> None:
    edges = both_ways((0, 1))
    with pytest.raises(ConfigError, match="^centrality: degree, pr, evc expected, got 'katz'"):
        centrality("katz", edges, 2)  # type: ignore[arg-type]
    for wrong in (edges.float(), edges[0], edges.T[:1]):
        with pytest.raises(DataError, match="^edge_index: int64"):
            centrality("degree", wrong, 2)
    with pytest.raises(DataError, match="^edge_index: nodes from 0 to 0"):
        centrality("pr", edges, 1)
    with pytest.raises(DataError, match="^num_nodes: "):
        centrality("evc", edges, 0)
