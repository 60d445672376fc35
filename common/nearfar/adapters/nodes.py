"""Nodes of one graph and encoders with PyG's signature ``encoder(x, edge_index[, edge_weight]) -> (n, m)``.

A batch is numbers of nodes; features and edges of the graph are with the encoder, which computes the whole graph once
a batch and picks rows. Views are those of GRACE (Zhu et al., 2020, section 3.2): edges dropped, features hidden. They
are drawn in host memory and travel as numbers of edges, so that no device is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.adapters.arrays import as_tensor, check_finite
from nearfar.adapters.inputs import Inputs
from nearfar.augment.draws import uniform
from nearfar.augment.graphs import drop_edges
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import to_device

# GRACE's for Cora.
DROPPED, HIDDEN = (0.2, 0.4), (0.3, 0.4)


@dataclass(frozen=True, eq=False)
class Nodes:
    """Some nodes of a graph, and what of the graph is seen.

    Attributes:
        ids: Of the nodes, int64, shape ``(B,)``.
        edges: Numbers of the edges that are there, int64, shape ``(E',)``; ``None`` is all.
        features: Features that are not hidden, bool, shape ``(1, d)``; ``None`` is all.
    """

    ids: Tensor
    edges: Tensor | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


class NodeInputs(Inputs):
    """Nodes of one graph, all or some of them (such as those with a label).

    Args:
        nodes: How many nodes are rows, 0 to ``nodes - 1``; or their ids, shape ``(N,)``.
        edge_index: Source and target of every edge of the graph, shape ``(2, E)``; needed for views that drop edges,
            in the order the encoder has them in.
        num_features: Width of the node features, for views that hide some; ``None`` hides none.
        dropped: Probability that an edge is dropped, in the first and in the second view, in [0, 1).
        hidden: Probability that a feature is hidden, likewise.
        undirected: Whether edges between the same two nodes, in either direction, go together.

    Attributes:
        ids: Of the rows, int64, shape ``(N,)``.

    Raises:
        DataError: If the nodes or edges are not as described.
        ConfigError: If a setting makes no sense.

    Example:
        >>> inputs = NodeInputs(torch.tensor([5, 7]), torch.tensor([[5, 7], [7, 5]]))
        >>> inputs.rows(torch.tensor([1])).ids.tolist()
        [7]
    """

    def __init__(
        self,
        nodes: int | Tensor,
        edge_index: Any = None,
        *,
        num_features: int | None = None,
        dropped: tuple[float, float] = DROPPED,
        hidden: tuple[float, float] = HIDDEN,
        undirected: bool = True,
    ) -> None:
        self.ids = _ids(nodes)
        self.edge_index = None if edge_index is None else _edges(edge_index)
        for name, pair in (("dropped", dropped), ("hidden", hidden)):
            if len(pair) != 2 or not all(0 <= p < 1 for p in pair):
                raise ConfigError(f"{name}: a pair of probabilities below 1 expected, got {pair}")
        self.num_features, self.dropped, self.hidden = num_features, dropped, hidden
        self.undirected = undirected
        # A pass over the graph costs the same for one row as for all.
        self.batch_size = max(1, len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, index: Tensor) -> Nodes:
        """Some nodes, with the whole graph around them.

        Args:
            index: Numbers of rows, int64, shape ``(B,)``.
        """
        return Nodes(self.ids.index_select(0, index))

    def two_views(self, batch: Nodes, generator: torch.Generator) -> tuple[Nodes, Nodes]:
        """The same nodes in two changed graphs.

        Args:
            batch: From :meth:`rows`.
            generator: Source of every draw.

        Raises:
            ConfigError: If there are neither edges nor features to leave out.
        """
        if self.edge_index is None and self.num_features is None:
            raise ConfigError(
                "two_views: NodeInputs knows nothing of the graph; give edge_index= (and num_features=) to draw views"
            )
        first, second = (self._view(batch, generator, view) for view in (0, 1))
        return first, second

    def _view(self, batch: Nodes, generator: torch.Generator, view: int) -> Nodes:
        device = batch.ids.device
        edges = features = None
        if self.edge_index is not None and self.dropped[view]:
            _, kept = drop_edges(self.edge_index, generator, p=self.dropped[view], undirected=self.undirected)
            edges = to_device(kept.nonzero()[:, 0], device)  # both of the host
        if self.num_features is not None and self.hidden[view]:
            like = torch.zeros(1)
            features = to_device(
                uniform((1, self.num_features), like, generator) >= self.hidden[view], device
            )
        return replace(batch, edges=edges, features=features)


def _ids(nodes: int | Tensor) -> Tensor:
    """Ids of nodes, int64, shape ``(N,)``."""
    if isinstance(nodes, int):
        if nodes < 1:
            raise DataError(f"nodes: one node or more expected, got {nodes}; say how many there are")
        return torch.arange(nodes)
    ids = _whole("nodes", nodes)
    if ids.dim() != 1 or not len(ids):
        raise DataError(
            f"nodes: ids of one node or more expected, got shape {tuple(ids.shape)}; give shape (N,)"
        )
    if int(ids.min()) < 0:
        row = int(ids.argmin())
        raise DataError(
            f"nodes: id {int(ids[row])} in row {row}, ids from 0 expected; number the nodes from 0"
        )
    return ids


def _edges(edge_index: Any) -> Tensor:
    """Sources and targets, int64, shape ``(2, E)``."""
    edges = _whole("edge_index", edge_index)
    if edges.dim() != 2 or len(edges) != 2:
        raise DataError(
            f"edge_index: shape (2, E) expected, got {tuple(edges.shape)}; transpose it: edge_index.T"
        )
    if edges.numel() and int(edges.min()) < 0:
        edge = int((edges < 0).any(0).nonzero()[0])
        source, target = edges[:, edge].tolist()
        raise DataError(
            f"edge_index: edge {edge} is {source} -> {target}, ids from 0 expected; number the nodes from 0"
        )
    return edges


def _whole(name: str, values: Any) -> Tensor:
    """Integers of any width as int64; a float would lose its fraction unseen."""
    found = as_tensor(name, values)
    if found.is_floating_point() and found.numel():
        raise DataError(f"{name}: whole numbers expected, got {found.dtype}; convert them: {name}.long()")
    return found.long()


def _check_weights(weights: Tensor, count: int) -> None:
    if weights.shape != (count,):
        raise DataError(
            f"edge_weight: shape ({count},) expected, one an edge, got {tuple(weights.shape)}; give as many"
        )
    outside = ~((weights >= 0) & weights.isfinite())
    if bool(outside.any()):
        edge = int(outside.nonzero()[0])
        raise DataError(
            f"edge_weight: {weights[edge].item()} of edge {edge}, finite numbers from 0 expected; clamp it or leave "
            "the edge out"
        )


class NodeRepresentation(nn.Module):
    """Rows of what an encoder makes of a whole graph; or of a mini-batch of PyG's ``NeighborLoader``.

    Args:
        encoder: Called as ``encoder(x, edge_index)``, with ``edge_weight`` as a third argument where there is one.
        x: Node features, floating point, shape ``(n, d)``.
        edge_index: Shape ``(2, E)``, int64; the edges in the order of :class:`NodeInputs`.
        edge_weight: Numbers from 0, shape ``(E,)``: degrees are sums of them, and their roots divide.

    Attributes:
        dim: Length of a representation, ``None`` where the encoder does not say.

    Raises:
        DataError: If the graph is not as described.

    Example:
        >>> class Mean(nn.Module):
        ...     def forward(self, x, edge_index):
        ...         source, target = edge_index
        ...         return x.index_add(0, target, x[source])
        >>> module = NodeRepresentation(Mean(), torch.eye(3), torch.tensor([[0, 1], [1, 2]]))
        >>> module(Nodes(torch.tensor([1]))).tolist()
        [[1.0, 1.0, 0.0]]
    """

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor | None

    def __init__(
        self, encoder: nn.Module, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None
    ) -> None:
        super().__init__()
        if x.dim() != 2 or not x.is_floating_point():
            raise DataError(
                f"x: floating point of shape (n, d) expected, got {x.dtype} of {tuple(x.shape)}; convert it: x.float()"
            )
        check_finite("x", x, ("row", "column"))
        if edge_index.dim() != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
            raise DataError(
                f"edge_index: int64 of shape (2, E) expected, got {edge_index.dtype} of {tuple(edge_index.shape)}; "
                "convert or transpose it: edge_index.long(), edge_index.t()"
            )
        if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < len(x):
            raise DataError(
                f"edge_index: nodes 0 to {len(x) - 1} expected, got {int(edge_index.min())} to "
                f"{int(edge_index.max())}; number them from 0"
            )
        if edge_weight is not None:
            _check_weights(edge_weight, edge_index.shape[1])
        self.encoder = encoder
        for name, tensor in (("x", x), ("edge_index", edge_index), ("edge_weight", edge_weight)):
            # Data, not weights: they move with the module and stay out of its checkpoints.
            self.register_buffer(name, tensor, persistent=False)
        widths = (getattr(encoder, name, None) for name in ("dim", "out_channels"))
        self.dim: int | None = next((width for width in widths if isinstance(width, int)), None)

    def forward(self, batch: Any) -> Tensor:
        """Representations of nodes.

        Args:
            batch: :class:`Nodes`, or ids of nodes, or a PyG ``Data`` with ``batch_size``, whose first nodes are meant.

        Returns:
            Shape ``(B, m)``.
        """
        if isinstance(batch, Tensor):
            batch = Nodes(batch)
        if not isinstance(batch, Nodes):
            return self._of_neighbours(batch)
        edges, weights, x = self.edge_index, self.edge_weight, self.x
        if batch.edges is not None:
            edges = edges.index_select(1, batch.edges)
            weights = None if weights is None else weights.index_select(0, batch.edges)
        if batch.features is not None:
            x = torch.where(batch.features, x, 0)
        states: Tensor = self.encoder(x, edges) if weights is None else self.encoder(x, edges, weights)
        return states.index_select(0, batch.ids)

    def _of_neighbours(self, batch: Any) -> Tensor:
        size = getattr(batch, "batch_size", None)
        if not isinstance(size, int):
            raise ValueError(
                "batch: Nodes, ids, or a mini-batch of NeighborLoader with batch_size expected, got "
                f"{type(batch).__name__}"
            )
        weights = getattr(batch, "edge_weight", None)
        found: Tensor = (
            self.encoder(batch.x, batch.edge_index)
            if weights is None
            else self.encoder(batch.x, batch.edge_index, weights)
        )
        return found[:size]
