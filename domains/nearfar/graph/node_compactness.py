"""Node compactness of a PyG encoder, as a module to call inside anybody's training loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.budget import AugmentationBudget
from nearfar.graph.checks import check_edge_form, check_features
from nearfar.graph.compactness import check_mode, check_nodes, contrast_vectors, project
from nearfar.graph.intervals import IntervalAdjacency, Norm, edge_interval, kept_entries, normalised
from nearfar.graph.layers import Given, closed_form
from nearfar.graph.surroundings import AT_ONE_GRAPH, Mode, Surroundings

NodeList: TypeAlias = Literal["exact", "official"]


class NodeCompactness(nn.Module):
    """How well nodes obey the contrastive principle under a 2-layer encoder (POT, Yu et al., NeurIPS 2023).

    The graph's part of the work is done once and kept for as long as the same ``edge_index`` comes back.

    Args:
        encoder: Two layers of GCNConv (or SAGEConv without root weight) with ReLU, LeakyReLU, PReLU or no activation
            (:func:`nearfar.graph.layers.describe`); it is not copied, and gradients reach its weights.
        budget: Most edges that an augmentation drops at a node.
        mode: As of :func:`nearfar.graph.compactness_bound`.
        activations: After each layer, where the encoder does not say it by ``.act`` or ``.activation``.
        node_list: ``exact`` bounds a list of nodes as in the whole graph; ``official`` takes contrast vectors among
            the list only and, for the surrogate, cuts edges that lead out of it, as published.

    Raises:
        ConfigError: If the encoder is not covered by the closed form; names the engine that covers it.

    Example:
        >>> from torch_geometric.nn import GCN
        >>> encoder, edges = GCN(3, 8, num_layers=2, out_channels=4), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> compactness = NodeCompactness(encoder, AugmentationBudget(0.4))
        >>> compactness(torch.eye(3), edges, z_other=torch.ones(3, 4)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        encoder: nn.Module,
        budget: AugmentationBudget | None = None,
        mode: Mode = "certified",
        *,
        activations: Sequence[Given] | None = None,
        node_list: NodeList = "exact",
    ) -> None:
        super().__init__()
        check_mode(mode)
        if node_list not in get_args(NodeList):
            raise ConfigError(f"node_list: exact or official expected, got {node_list!r}")
        self.encoder, self.budget, self.mode = encoder, budget or AugmentationBudget(), mode
        self.activations, self.node_list = activations, node_list
        self.layers()  # unsupported encoders are refused here, not in the first step
        self._known: _Known | None = None
        self._seen: tuple[Tensor, int] | None = None

    def layers(self) -> tuple[TwoLayers, Norm]:
        """The encoder's two layers as they are now, and how they normalise."""
        return closed_form(self.encoder, self.activations)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        z_other: Tensor,
        nodes: Tensor | None = None,
        view_edge_index: Tensor | None = None,
    ) -> Tensor:
        """Compactness of nodes against their embeddings in the other view.

        Args:
            x: Node features, shape ``(n, d0)``.
            edge_index: The original graph, shape ``(2, E)``; no self loops, no edge twice.
            z_other: Embeddings of all nodes in the other view, shape ``(n, d2)``.
            nodes: Which nodes, int64, shape ``(k,)``; ``None`` is all.
            view_edge_index: The augmented graph, for modes that look at one, shape ``(2, K)``.

        Returns:
            Shape ``(n,)`` or ``(k,)``.

        Raises:
            DataError: If features, edges or nodes are not as described.
        """
        layers, norm = self.layers()
        self._check_features(x)
        (w1, w2), num_nodes = layers.weights, x.shape[0]
        if x.shape[1] != len(w1):
            raise DataError(
                f"x: {len(w1)} features expected by layer 1, got shape {tuple(x.shape)}; build the encoder for it"
            )
        if z_other.shape != (num_nodes, w2.shape[1]):
            raise DataError(
                f"z_other: shape {(num_nodes, w2.shape[1])} expected, got {tuple(z_other.shape)}; embed all nodes by "
                "the same encoder"
            )
        if not z_other.is_floating_point():
            raise DataError(
                f"z_other: floating point expected, got {z_other.dtype}; convert it: z_other.float()"
            )
        if view_edge_index is not None:
            check_edge_form("view_edge_index", view_edge_index)
        intervals, around = self._graph(edge_index, num_nodes, norm, w1.dtype)
        if nodes is None:
            w = contrast_vectors(z_other)
        else:
            check_nodes(nodes, num_nodes)
            official = self.node_list == "official"
            around = Surroundings.of(intervals, self.mode, nodes, cut=official)
            w = contrast_vectors(z_other[nodes] if official else z_other)
            if not official and not around.takes_all_vectors:
                w = w[nodes]
        values = None
        if self.mode in AT_ONE_GRAPH:
            kept = kept_entries(intervals, edge_index if view_edge_index is None else view_edge_index)
            values = normalised(intervals, kept, w1.dtype)
        return around.bound(layers, project(x, w1), w, values)

    def _check_features(self, x: Tensor) -> None:
        """Look at numbers again only when they may be others: on a GPU they have to be waited for."""
        if self._seen is None or self._seen[0] is not x or self._seen[1] != x._version:
            check_features(x)
            self._seen = (x, x._version)

    @torch.no_grad()
    def _graph(
        self, edge_index: Tensor, num_nodes: int, norm: Norm, dtype: torch.dtype
    ) -> tuple[IntervalAdjacency, Surroundings]:
        key = (edge_index._version, num_nodes, norm, dtype, self.budget, self.mode)
        if self._known is None or self._known.edge_index is not edge_index or self._known.key != key:
            budget, tight = self.budget, self.mode != "surrogate"
            q = budget.of(edge_index, num_nodes)
            intervals = edge_interval(
                edge_index, num_nodes, q, norm, directed=budget.directed, tight=tight, dtype=dtype
            )
            self._known = _Known(edge_index, key, intervals, Surroundings.of(intervals, self.mode))
        return self._known.intervals, self._known.whole


class _Known(NamedTuple):
    """The graph's part of the work, and what it belongs to."""

    edge_index: Tensor
    key: tuple[object, ...]
    intervals: IntervalAdjacency
    whole: Surroundings
