r"""Node compactness of encoders that the closed form does not cover, by auto_LiRPA on the graph around a node.

For each node a lower bound of :math:`f_i(\hat A) = \langle z_i(\hat A), w_i \rangle` over all graphs that lose at most
q_j edges at node j (POT, Yu et al., NeurIPS 2023), from interval arithmetic, CROWN (Zhang et al., NeurIPS 2018) or
alpha-CROWN (Xu et al., ICLR 2021): for whatever :mod:`nearfar.graph.layers` can describe, one node at a time, and
an independent judge of :func:`nearfar.graph.compactness_bound`.

Every method bounds more graphs than there are: all matrices between the element-wise bounds of
:mod:`nearfar.graph.intervals`. None is always the tightest; the largest of several bounds is a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph.ego.dense import EgoNetwork
from nearfar.graph.ego.subgraph import EgoNodes
from nearfar.graph.intervals import IntervalAdjacency, edge_interval, normalised
from nearfar.graph.layers import Activation, Given, MessageLayer, check_layers, describe
from nearfar.interop.auto_lirpa import bounded

Method: TypeAlias = Literal["IBP", "CROWN", "CROWN-Optimized"]


def ego_bounds(
    encoder: nn.Module | Sequence[MessageLayer],
    x: Tensor,
    edge_index: Tensor,
    nodes: Tensor,
    *,
    w: Tensor,
    q: Tensor,
    method: Method = "CROWN",
    directed: bool = True,
    tight: bool = True,
    max_nodes: int = 150,
    activations: Sequence[Given] | None = None,
) -> Tensor:
    """Lower bounds of nodes' scores over all graphs within a budget, in float64 on the CPU.

    A module is run once, on the graph as it is: what was read from it must give the same embeddings.

    Args:
        encoder: Two layers of PyG's GCNConv, SAGEConv or GINConv, called as ``encoder(x, edge_index)``; or their
            description.
        x: Node features, dense or sparse, shape ``(n, d0)``.
        edge_index: Source and target of every edge, shape ``(2, E)``, int64; no self loops, no edge twice.
        nodes: Whose scores, int64, shape ``(k,)``.
        w: Their contrast vectors (:func:`nearfar.graph.contrast_vectors`), shape ``(k, d2)``.
        q: Most edges lost among those that point to a node, whole numbers, shape ``(n,)``.
        method: ``IBP``, ``CROWN``, or ``CROWN-Optimized`` (alpha-CROWN, seconds per node; ``CROWN`` where it fails).
        directed: Whether the directions of an edge are dropped independently; else together.
        tight: Whether edges that cannot be dropped count as present.
        max_nodes: Most nodes within two hops of a node.
        activations: As of :func:`nearfar.graph.layers.describe`.

    Returns:
        Shape ``(k,)``, float64, without gradient, on the device of ``x``.

    Raises:
        MissingDependencyError: If auto_LiRPA or PyG is not installed.
        ConfigError: If the encoder or the method is not supported, or there are too many nodes around one.
        DataError: If features, edges, budgets, nodes or contrast vectors are not as described.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> layer = MessageLayer("gcn", torch.eye(2), activation=Activation("tanh"))
        >>> ego_bounds(
        ...     [layer, layer], torch.eye(3, 2), edges, torch.tensor([1]), w=torch.ones(1, 2), q=torch.tensor([0, 1, 0])
        ... )  # doctest: +SKIP
        tensor([0.1068], dtype=torch.float64)
    """
    if method not in get_args(Method):
        raise ConfigError(f"method: one of {', '.join(get_args(Method))} expected, got {method!r}")
    layers = describe(encoder, activations) if isinstance(encoder, nn.Module) else list(encoder)
    check_layers(layers)
    _check_method(layers, method)
    _check_inputs(layers, x, nodes, w)
    intervals = edge_interval(
        edge_index.cpu(),
        x.shape[0],
        q.cpu(),
        layers[0].kind,
        directed=directed,
        tight=tight,
        dtype=torch.float64,
    )
    egos = [EgoNodes.of(intervals, node) for node in nodes.tolist()]
    for ego in egos:
        _check_size(ego, max_nodes, layers[1].weight.shape[1])
    networks = [
        EgoNetwork(layers, _rows(x, ego.nodes), ego.num_hidden, vector)
        for ego, vector in zip(egos, w.detach().cpu(), strict=True)
    ]
    if isinstance(encoder, nn.Module):
        _check_description(encoder, x, edge_index, nodes, intervals, egos, networks)
    bounds = [_lower(network, intervals, ego, method) for network, ego in zip(networks, egos, strict=True)]
    return torch.stack(bounds).to(x.device)


def _lower(network: EgoNetwork, intervals: IntervalAdjacency, ego: EgoNodes, method: Method) -> Tensor:
    low, high = (ego.dense(intervals, values)[None] for values in (intervals.lower, intervals.upper))
    try:
        with torch.enable_grad():  # alpha-CROWN descends on its slopes
            bound, _ = bounded(network, high, low, high, method=method)
    except KeyError:
        # auto_LiRPA has no slopes for a layer whose units were all of one sign at first, and looks for them when one
        # no longer is. Where alpha-CROWN starts from is a bound too.
        if method != "CROWN-Optimized":
            raise
        return _lower(network, intervals, ego, "CROWN")
    return bound.detach()[0, 0]


def _rows(x: Tensor, nodes: Tensor) -> Tensor:
    """Features of some nodes, dense."""
    x = x.detach().cpu()
    if x.layout == torch.sparse_csr:
        x = x.to_sparse_coo()
    rows = x.index_select(0, nodes)
    return (rows if rows.layout == torch.strided else rows.to_dense()).double()


def _check_method(layers: Sequence[MessageLayer], method: Method) -> None:
    names = {
        step.name
        for layer in layers
        for step in (*layer.mlp, layer.activation)
        if isinstance(step, Activation)
    }
    smooth = sorted(names & {"tanh", "sigmoid"})
    if method == "CROWN-Optimized" and smooth:
        raise ConfigError(
            f"method: auto_LiRPA 0.3 cannot optimise the slopes of {' and '.join(smooth)}; use 'CROWN'"
        )


def _check_inputs(layers: Sequence[MessageLayer], x: Tensor, nodes: Tensor, w: Tensor) -> None:
    num_features = len(layers[0].weight)
    if x.dim() != 2 or x.shape[1] != num_features:
        raise DataError(f"x: shape (n, {num_features}) expected by layer 1, got {tuple(x.shape)}")
    if nodes.dim() != 1 or nodes.dtype != torch.int64 or not len(nodes):
        raise DataError(
            f"nodes: int64 of shape (k,), at least one, expected, got {nodes.dtype} of {tuple(nodes.shape)}"
        )
    if int(nodes.min()) < 0 or int(nodes.max()) >= len(x):
        raise DataError(f"nodes: 0 to {len(x) - 1} expected, got {int(nodes.min())} to {int(nodes.max())}")
    if w.shape != (len(nodes), layers[1].width):
        raise DataError(f"w: shape {(len(nodes), layers[1].width)} expected, got {tuple(w.shape)}")


def _check_size(ego: EgoNodes, max_nodes: int, width: int) -> None:
    count, hidden = len(ego.nodes), ego.num_hidden
    if count > max_nodes:
        # CROWN bounds hidden x width products by the adjacency's hidden x count entries, a few times.
        gigabytes = 4 * 8 * hidden**2 * width * count / 1e9
        raise ConfigError(
            f"node {int(ego.nodes[0])}: {count} nodes within two hops, at most {max_nodes} allowed: CROWN takes about "
            f"{gigabytes:.1f} GB, growing with the square of the {hidden} within one hop; raise max_nodes, or use the "
            "closed form nearfar.graph.compactness_bound, which has no such limit"
        )


def _check_description(
    encoder: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    nodes: Tensor,
    intervals: IntervalAdjacency,
    egos: Sequence[EgoNodes],
    networks: Sequence[EgoNetwork],
) -> None:
    """An encoder's ``forward`` is the user's: it may do what its layers do not show."""
    original = normalised(intervals, torch.ones_like(intervals.is_self), torch.float64)
    with torch.no_grad():
        found = torch.cat(
            [
                net.embed(ego.dense(intervals, original)[None])[0]
                for net, ego in zip(networks, egos, strict=True)
            ]
        )
        expected = _evaluated(encoder, x, edge_index)[nodes.to(x.device)]
    tolerance = 1e-8 if expected.dtype == torch.float64 else 1e-3
    expected = expected.double().cpu()
    if found.shape != expected.shape or not torch.allclose(
        found, expected, rtol=tolerance, atol=tolerance * max(float(expected.abs().max()), 1e-30)
    ):
        error = float((found - expected).abs().max()) if found.shape == expected.shape else "another shape"
        raise ConfigError(
            f"encoder: {type(encoder).__name__} computes something else than its layers with their activations "
            f"(difference: {error}); pass activations=(first, second), None for a layer without, or describe the layers"
        )


def _evaluated(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        embeddings: Tensor = encoder(x, edge_index)
    finally:
        for module, mode in training.items():
            module.training = mode
    return embeddings
