r"""Node compactness: how well a node obeys the contrastive principle, whatever edges are dropped.

With the contrast vector of node i from the other view, the score

.. math:: f_i(\hat A) = \langle z_i(\hat A), w_i \rangle, \qquad
          w_i = \bar z_i - \frac{1}{N - 1} \sum_{j \ne i} \bar z_j, \qquad \bar z = z / \lVert z \rVert

is positive when the node's embedding is closer to its own other view than to the average of the others. Its
compactness is the minimum over all graphs that lose at most q_j edges at node j (POT, Yu et al., NeurIPS 2023). Modes:

==============  ====================================================================================
``certified``   lower bound over all graphs within the budget (:mod:`nearfar.graph.bounds.certified`)
``ibp``         the same by interval arithmetic alone: cheapest, loosest
``relaxed_at``  the relaxation at one graph: bounds the score of that graph only
``sampled``     the score of one graph; bounds nothing
``surrogate``   what the published program computes; bounds nothing (:mod:`nearfar.graph.bounds.surrogate`)
==============  ====================================================================================

Bounds are computed in float32 or float64 without directed rounding: to report a certificate use float64 and a margin of
1e-6 (1 + |f|), as :func:`nearfar.graph.certify` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.bounds.encoder import Layer, TwoLayers
from nearfar.graph.bounds.hops import HUB
from nearfar.graph.bounds.relaxation import Slope
from nearfar.graph.checks import check_edge_form, check_features
from nearfar.graph.intervals import Norm, edge_interval, kept_entries, normalised
from nearfar.graph.surroundings import AT_ONE_GRAPH, MODES, Mode, Surroundings


def compactness_bound(
    x: Tensor,
    edge_index: Tensor,
    *,
    layers: Sequence[Layer],
    slope: Slope | Sequence[Slope],
    w: Tensor,
    q: Tensor,
    mode: Mode = "certified",
    nodes: Tensor | None = None,
    view_edge_index: Tensor | None = None,
    norm: Norm = "gcn",
    directed: bool = True,
    tight: bool = True,
    cut: bool = True,
    transpose: bool = True,
    hub: int = HUB,
    block_size: int | None = None,
) -> Tensor:
    r"""Compactness of nodes under a 2-layer encoder, with gradients to its weights, the features and ``w``.

    Time is O(E d1 d2 + sum of squared degrees d1), memory O(E + n (d1 + d2)): no n x n object, a million nodes on a
    CPU.

    Args:
        x: Node features, dense or sparse, shape ``(n, d0)``.
        edge_index: Source and target of every edge, shape ``(2, E)``, int64; no self loops, no edge twice.
        layers: Weight ``(d_in, d_out)`` and bias ``(d_out,)`` (or ``None``) of both layers.
        slope: Of the activation for negative arguments, in [0, 1]: 0 is ReLU, 1 the identity, a scalar tensor a
            PReLU; one for both layers or one for each.
        w: Contrast vectors of the targets (:func:`contrast_vectors`), shape ``(n, d2)``, or ``(k, d2)`` with ``nodes``.
        q: Most edges lost among those that point to a node, whole numbers, shape ``(n,)``
            (:class:`nearfar.graph.AugmentationBudget`).
        mode: See :mod:`nearfar.graph.compactness`.
        nodes: Targets, int64, shape ``(k,)``; ``None`` is all. The result is that of the whole graph, at these nodes.
        view_edge_index: The augmented graph of the modes that look at one, shape ``(2, K)``; ``None`` is the graph as
            it is.
        norm: ``gcn`` (with self loops), ``mean`` of neighbours, or ``sum``.
        directed: Whether the directions of an edge are dropped independently; else together. Both are sound for what
            they say; ``True`` is sound for both.
        tight: Whether edges that cannot be dropped count as present; the published program leaves that out.
        cut: ``surrogate`` with ``nodes``: drop edges that lead out of the list, as published. Else it mixes the
            contrast vectors of all nodes: ``w`` is ``(n, d2)``.
        transpose: ``surrogate``: apply the augmented graph transposed, as published.
        hub: Neighbours from which a node's bound is the looser one, to save time.
        block_size: Edges worked on at a time; by default what suits the device.

    Returns:
        Shape ``(n,)`` or ``(k,)``.

    Raises:
        DataError: If features, edges, budgets or nodes are not as described.
        ConfigError: If the mode, a layer or a slope is not supported.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> identity = (torch.eye(2), None)
        >>> q = torch.tensor([0, 1, 0])
        >>> w = torch.ones(3, 2)
        >>> compactness_bound(torch.eye(3, 2), edges, layers=[identity] * 2, slope=1.0, w=w, q=q).shape
        torch.Size([3])
    """
    check_mode(mode)
    check_features(x)
    num_nodes = x.shape[0]
    encoder = TwoLayers.of(layers, slope)
    w1, w2 = encoder.weights
    if x.shape[1] != len(w1):
        raise DataError(f"x: {len(w1)} features expected by layer 1, got shape {tuple(x.shape)}")
    whole_list = nodes is None or (mode == "surrogate" and not cut)
    if nodes is not None:
        check_nodes(nodes, num_nodes)
    count = num_nodes if nodes is None or whole_list else len(nodes)
    if w.shape != (count, w2.shape[1]):
        raise DataError(f"w: shape {(count, w2.shape[1])} expected, got {tuple(w.shape)}")
    tight = tight and mode != "surrogate"
    intervals = edge_interval(edge_index, num_nodes, q, norm, directed=directed, tight=tight, dtype=w1.dtype)
    surroundings = Surroundings.of(intervals, mode, nodes, cut=cut, hub=hub, block_size=block_size)
    values = None
    if view_edge_index is not None:
        check_edge_form("view_edge_index", view_edge_index)
    if mode in AT_ONE_GRAPH:
        kept = kept_entries(intervals, edge_index if view_edge_index is None else view_edge_index)
        values = normalised(intervals, kept, w1.dtype)
    return surroundings.bound(encoder, project(x, w1), w, values, transpose=transpose)


def contrast_vectors(z: Tensor) -> Tensor:
    r"""What an embedding must point along to obey the contrastive principle.

    Args:
        z: Embeddings of N nodes in the other view, shape ``(N, d)``.

    Returns:
        :math:`\bar z_i` minus the mean of the others, shape ``(N, d)``; :math:`\bar z_i` itself for a single node.

    Example:
        >>> contrast_vectors(torch.tensor([[2.0, 0.0], [0.0, 3.0]])).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    unit: Tensor = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
    if len(z) == 1:
        return unit
    others = len(z) - 1
    return unit * (len(z) / others) - unit.sum(0) / others


def project(x: Tensor, weight: Tensor) -> Tensor:
    """First-layer projection X W; half precision is widened.

    Args:
        x: Dense, sparse COO or CSR, shape ``(n, d0)``.
        weight: Shape ``(d0, d1)``.

    Returns:
        Shape ``(n, d1)``.
    """
    return (
        torch.sparse.mm(x.to(weight.dtype), weight)
        if x.layout != torch.strided
        else x.to(weight.dtype) @ weight
    )


def check_mode(mode: str) -> None:
    """Refuse unknown modes.

    Args:
        mode: Of :func:`compactness_bound`.

    Raises:
        ConfigError: Naming the known ones.
    """
    if mode not in MODES:
        raise ConfigError(f"mode: one of {', '.join(MODES)} expected, got {mode!r}")


def check_nodes(nodes: Tensor, num_nodes: int) -> None:
    """Refuse what is no list of different nodes.

    Args:
        nodes: int64, shape ``(k,)``.
        num_nodes: How many there are.

    Raises:
        DataError: Naming what is wrong.
    """
    if nodes.dim() != 1 or nodes.dtype != torch.int64:
        fix = "mask.nonzero()[:, 0] lists those of a mask" if nodes.dtype == torch.bool else "give their ids"
        raise DataError(
            f"nodes: int64 of shape (k,) expected, got {nodes.dtype} of {tuple(nodes.shape)}; {fix}"
        )
    if len(nodes) == 0 or int(nodes.min()) < 0 or int(nodes.max()) >= num_nodes:
        raise DataError(f"nodes: at least one, from 0 to {num_nodes - 1} expected, got {nodes[:5].tolist()}")
    if len(nodes.unique()) != len(nodes):
        found, counts = nodes.unique(return_counts=True)
        raise DataError(
            f"nodes: each node once expected, {int(found[counts > 1][0])} is there twice or more; nodes.unique() "
            "leaves repeats out"
        )
