"""Nodes of a graph: views as loops would draw them, rows of PyG's encoders, mini-batches."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.adapters import NodeInputs, NodeRepresentation, Nodes, representations
from nearfar.errors import ConfigError, DataError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator, to_device

with_pyg = pytest.mark.skipif(
    not installed("torch_geometric"), reason=f"needs PyG: {PACKAGES['torch_geometric'].command}"
)


def graph(n: int = 12, d: int = 5) -> tuple[Tensor, Tensor]:
    """A ring with chords, both directions of every edge."""
    here = torch.arange(n)
    pairs = torch.cat([torch.stack([here, (here + step) % n]) for step in (1, 3)], 1)
    return torch.randn(n, d, generator=generator(0, "x")), torch.cat([pairs, pairs.flip(0)], 1)


class Sums(nn.Module):
    """Sums over the neighbours, weighted."""

    out_channels = 5

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        source, target = edge_index
        messages = x[source] if edge_weight is None else x[source] * edge_weight[:, None]
        return torch.zeros_like(x).index_add(0, target, messages)


def by_hand(x: Tensor, edges: Tensor, kept: list[int], features: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    for edge in kept:
        out[edges[1, edge]] += x[edges[0, edge]] if features is None else x[edges[0, edge]] * features[0]
    return out


def test_rows_are_those_of_the_whole_graph() -> None:
    x, edges = graph()
    module, ids = NodeRepresentation(Sums(), x, edges), torch.tensor([7, 2, 2])
    inputs = NodeInputs(ids, edges)
    z = representations(module, inputs, torch.tensor([2, 0]))
    torch.testing.assert_close(z, by_hand(x, edges, list(range(edges.shape[1])), None)[[2, 7]])
    torch.testing.assert_close(module(ids), module(Nodes(ids)))
    assert inputs.batch_size == 3
    assert module.dim == 5


def test_views_leave_out_edges_and_features() -> None:
    x, edges = graph(60, 40)
    inputs = NodeInputs(60, edges, num_features=40, dropped=(0.25, 0.5), hidden=(0.1, 0.6))
    batch = inputs.rows(torch.tensor([3, 50]))
    views = inputs.two_views(batch, generator(0, "views"))
    module = NodeRepresentation(Sums(), x, edges)
    for view, drop, hide in zip(views, (0.25, 0.5), (0.1, 0.6), strict=True):
        assert view.edges is not None
        assert view.features is not None
        kept = set(view.edges.tolist())
        assert 1 - len(kept) / edges.shape[1] == pytest.approx(drop, abs=0.25)
        assert 1 - view.features.double().mean().item() == pytest.approx(hide, abs=0.3)
        # The second half of the edges is the first one, turned around.
        half = edges.shape[1] // 2
        assert {edge + half for edge in kept if edge < half} == {edge for edge in kept if edge >= half}
        expected = by_hand(x, edges, sorted(kept), view.features.float())
        torch.testing.assert_close(module(view), expected[[3, 50]])


def test_views_are_a_function_of_the_generator() -> None:
    _, edges = graph()
    inputs = NodeInputs(12, edges, num_features=5)
    batch = inputs.rows(torch.arange(4))
    first, again, other = (inputs.two_views(batch, generator(seed, "views")) for seed in (3, 3, 4))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.edges is not None
        assert b.edges is not None
        assert c.edges is not None
        assert torch.equal(a.edges, b.edges)
        assert not torch.equal(a.edges, c.edges)
    assert batch.edges is None
    assert torch.equal(batch.ids, torch.arange(4))


def test_directed_edges_go_one_by_one() -> None:
    _, edges = graph(200)
    view, _ = NodeInputs(200, edges, undirected=False).two_views(
        Nodes(torch.arange(2)), generator(0, "views")
    )
    assert view.edges is not None
    kept, half = set(view.edges.tolist()), edges.shape[1] // 2
    assert {edge + half for edge in kept if edge < half} != {edge for edge in kept if edge >= half}
    assert view.features is None


def test_nothing_can_be_left_out_of_nothing() -> None:
    with pytest.raises(ConfigError, match="NodeInputs knows nothing of the graph; give edge_index="):
        NodeInputs(3).two_views(Nodes(torch.arange(2)), generator(0, "views"))


def test_nodes_are_not_mixed() -> None:
    inputs = NodeInputs(3)
    assert inputs.mix(inputs.rows(torch.arange(3)), torch.arange(3), torch.tensor(0.5)) is None


def test_weights_of_edges_go_along() -> None:
    x, edges = graph()
    weight = torch.rand(edges.shape[1], generator=generator(0, "w"))
    module = NodeRepresentation(Sums(), x, edges, weight)
    kept = torch.tensor([0, 5, 20])
    out = torch.zeros_like(x)
    for edge in kept.tolist():
        out[edges[1, edge]] += weight[edge] * x[edges[0, edge]]
    torch.testing.assert_close(module(Nodes(torch.arange(12), edges=kept)), out)


def test_the_graph_moves_with_the_module_and_stays_out_of_checkpoints() -> None:
    x, edges = graph()
    module = NodeRepresentation(Sums(), x, edges)
    assert not module.state_dict()
    assert module.to("meta").x.device.type == "meta"
    assert copy.deepcopy(module).edge_index.device.type == "meta"
    batch = to_device(Nodes(torch.arange(3), edges=torch.arange(2)), torch.device("meta"))
    assert batch.edges.device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 2), torch.tensor([[0], [3]])), "edge_index: nodes 0 to 2 expected, got 0 to 3"),
        ((torch.zeros(3, 2), torch.zeros(2, 3)), r"edge_index: int64 of shape \(2, E\)"),
        ((torch.zeros(3).long(), torch.zeros(2, 3).long()), r"x: floating point of shape \(n, d\)"),
        ((torch.zeros(3, 2), torch.zeros(2, 4).long(), torch.zeros(3)), r"edge_weight: shape \(4,\)"),
    ],
)
def test_graphs_that_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        NodeRepresentation(Sums(), *arguments)


def test_inputs_that_are_refused() -> None:
    with pytest.raises(DataError, match="nodes: id -1 in row 0, ids from 0 expected"):
        NodeInputs(torch.tensor([-1, 2]))
    with pytest.raises(DataError, match=r"edge_index: shape \(2, E\) expected, got \(3, 2\)"):
        NodeInputs(3, np.zeros((3, 2), dtype=int))
    with pytest.raises(ConfigError, match="dropped: a pair of probabilities below 1"):
        NodeInputs(3, dropped=(0.5, 1.0))
    with pytest.raises(ValueError, match="mini-batch of NeighborLoader with batch_size expected, got list"):
        NodeRepresentation(Sums(), *graph())([1, 2])


@with_pyg
def test_pyg_end_to_end() -> None:
    from torch_geometric.nn import GCN

    x, edges = graph()
    encoder = GCN(5, 8, num_layers=2, out_channels=4)
    module = NodeRepresentation(encoder, x, edges)
    inputs = NodeInputs(torch.tensor([4, 0, 9]), edges, num_features=5)
    z = representations(module, inputs)
    encoder.eval()
    torch.testing.assert_close(z, encoder(x, edges)[[4, 0, 9]].detach())
    assert module.dim == 4
    first, second = inputs.two_views(inputs.rows(torch.arange(3)), generator(0, "views"))
    (module(first) - module(second)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters() if p.dim() > 1)


@with_pyg
def test_nearfars_graph_encoder_end_to_end() -> None:
    from nearfar.graph.encoder import GCNEncoder

    x, edges = graph()
    encoder = GCNEncoder(5, 6, generator=generator(0, "e"))
    module = NodeRepresentation(encoder, x, edges)
    torch.testing.assert_close(module(torch.tensor([3])), encoder(x, edges)[3:4])
    assert module.dim == 6


@with_pyg
def test_mini_batches_give_their_first_nodes() -> None:
    from torch_geometric.data import Data
    from torch_geometric.nn import GraphSAGE

    x, edges = graph(40)
    encoder = GraphSAGE(5, 8, num_layers=2, out_channels=4).eval()
    module = NodeRepresentation(encoder, x, edges)
    # What NeighborLoader makes of seeds 7 and 2 if it takes all neighbours: seeds first, then two hops around them.
    near = [7, 2]
    for _ in range(2):
        near += sorted({s for s, t in edges.T.tolist() if t in near} - set(near))
    assert 2 < len(near) < 40
    place = {node: number for number, node in enumerate(near)}
    inside = [[place[s], place[t]] for s, t in edges.T.tolist() if s in place and t in place]
    batch = Data(x=x[near], edge_index=torch.tensor(inside).T, batch_size=2)
    torch.testing.assert_close(module(batch), encoder(x, edges)[[7, 2]])
    assert to_device(batch, torch.device("cpu")).batch_size == 2


@with_pyg
@pytest.mark.skipif(
    not (installed("pyg_lib") or installed("torch_sparse")),
    reason="NeighborLoader needs pyg-lib or torch-sparse",
)
def test_neighbor_loader() -> None:
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader
    from torch_geometric.nn import GraphSAGE

    x, edges = graph()
    encoder = GraphSAGE(5, 8, num_layers=2, out_channels=4).eval()
    module = NodeRepresentation(encoder, x, edges)
    for batch in NeighborLoader(Data(x=x, edge_index=edges), num_neighbors=[-1, -1], batch_size=5):
        torch.testing.assert_close(module(batch), encoder(x, edges)[batch.n_id[: batch.batch_size]])
