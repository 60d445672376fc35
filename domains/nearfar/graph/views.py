"""Training batches of the graph methods: two views of the graph, and the nodes that are contrasted.

A view is a choice of edges, drawn on the host as a function of (seed, step); its normalised adjacency has the entries
of the original graph, zero where an edge is gone, so no shape depends on a draw and no device is waited for.

With ``sampling=closure`` the encoder sees the neighbours' neighbours of the contrasted nodes and nothing else.
Degrees are those of the whole view, so what it computes for these nodes is what it would compute on the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nearfar.augment.graphs import drop_edges, edge_drop_probability
from nearfar.graph.bounds.hops import Hops, View, two_hops
from nearfar.graph.contrast.centrality import centrality
from nearfar.graph.contrast.config import GraphContrastConfig
from nearfar.graph.datasets import GraphDataset
from nearfar.graph.features import Features
from nearfar.graph.intervals import IntervalAdjacency, edge_interval, normalised
from nearfar.runtime import Runtime, generator


@dataclass(frozen=True, eq=False)
class Closure:
    """What the contrasted nodes of a batch can see.

    Attributes:
        hops: From the features of m nodes to the contrasted ones.
        features: Of these m nodes.
        views: Both views.
    """

    hops: Hops
    features: Features
    views: tuple[View, View]


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """One step's views and nodes.

    Attributes:
        nodes: Contrasted by this process, int64, shape ``(B,)``; ``None`` is all there are.
        total: How many nodes are contrasted by all processes.
        values: Normalised adjacency of both views at the entries of the graph, shape ``(E,)`` each; none with a
            closure.
        kept_features: Features that are not hidden, bool, shape ``(d,)``; ``None`` hides none.
        closure: What is encoded instead of the whole graph.
        extra: What a method adds: see its batches.
    """

    nodes: Tensor | None
    total: int
    values: tuple[Tensor, ...]
    kept_features: tuple[Tensor | None, Tensor | None]
    closure: Closure | None = None
    extra: object = None


Extend = Callable[["GraphBatch", tuple[Tensor, Tensor], int], object]


class GraphBatches:
    """The views of every step.

    Args:
        config: Augmentation, nodes per step, seed.
        dataset: The graph.
        runtime: This process's share of the nodes.
        extend: Given a batch, the views' adjacency at the entries of the whole graph and the step: its ``extra``.
    """

    def __init__(
        self,
        config: GraphContrastConfig,
        dataset: GraphDataset,
        runtime: Runtime,
        extend: Extend | None = None,
    ) -> None:
        self.config, self.runtime, self.extend = config, runtime, extend
        self.graph = Graph.of(dataset)
        self.drop = self.graph.drop_probabilities(config)
        n, size = dataset.num_nodes, config.batch_nodes
        self.size = n if size is None else min(size, n)
        self.steps_per_epoch = -(-n // self.size) if config.sampling == "closure" else 1
        self.features = Features.of(dataset.x) if config.sampling == "closure" else None

    def batch(self, step: int) -> GraphBatch:
        """The views of a step and the nodes to contrast, in host memory."""
        config, graph = self.config, self.graph
        rates = (config.augment.mask_1, config.augment.mask_2)
        kept = tuple(self._kept_features(rate, step, view) for view, rate in enumerate(rates))
        values = (self.view(step, 0), self.view(step, 1))
        nodes, total = self._nodes(step)
        batch = GraphBatch(nodes, total, values, (kept[0], kept[1]))
        if self.features is not None:
            assert nodes is not None
            hops = two_hops(graph.plain, nodes)
            assert hops.sources is not None
            views = (hops.view(values[0]), hops.view(values[1]))
            closure = Closure(hops, self.features.rows(hops.sources), views)
            batch = replace(batch, values=(), closure=closure)
        return batch if self.extend is None else replace(batch, extra=self.extend(batch, values, step))

    def view(self, step: int, view: int) -> Tensor:
        """Normalised adjacency of a view, shape ``(E,)``; zero where an edge was dropped."""
        rng = generator(self.config.seed, "augment", step, view)
        edges, together = self.graph.edge_index, not self.config.augment.directed
        _, mask = drop_edges(edges, rng, p=self.drop[view], undirected=together)
        kept = self.graph.plain.is_self.index_copy(0, self.graph.entry, mask)
        return normalised(self.graph.plain, kept, torch.float32)

    def _nodes(self, step: int) -> tuple[Tensor | None, int]:
        """This process's part of the nodes of a step, ``None`` for all in their order; and how many all have."""
        n, world = self.graph.plain.pattern.num_rows, self.runtime.world_size
        if self.size == n and self.features is None:
            mine = torch.arange(n).tensor_split(world)[self.runtime.rank]
            return (None if world == 1 else mine), n
        epoch, part = divmod(step, self.steps_per_epoch)
        order = torch.randperm(n, generator=generator(self.config.seed, "order", epoch))
        chosen = order[part * self.size : (part + 1) * self.size]
        if len(chosen) < 2:  # a single node has no negatives
            chosen = order[-2:]
        return chosen.tensor_split(world)[self.runtime.rank], len(chosen)

    def _kept_features(self, rate: float, step: int, view: int) -> Tensor | None:
        if rate == 0:
            return None
        rng = generator(self.config.seed, "mask", step, view)
        return torch.rand(self.graph.num_features, generator=rng) >= rate


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph as the methods use it.

    Attributes:
        edge_index: Source and target of every edge, shape ``(2, E0)``.
        plain: Its adjacency with self loops, nothing dropped.
        entry: Place of every edge among the entries of that, shape ``(E0,)``.
        num_features: Width of the node features.
    """

    edge_index: Tensor
    plain: IntervalAdjacency
    entry: Tensor
    num_features: int

    @classmethod
    def of(cls, dataset: GraphDataset) -> Graph:
        """Of a data set."""
        n = dataset.num_nodes
        source, target = dataset.edge_index
        plain = edge_interval(dataset.edge_index, n, torch.zeros(n, dtype=torch.int64))
        return cls(dataset.edge_index, plain, plain.pattern.places(target, source), dataset.x.shape[1])

    def drop_probabilities(self, config: GraphContrastConfig) -> tuple[float | Tensor, float | Tensor]:
        """Of both views: one number, or one for each edge, shape ``(E0,)``."""
        rates = (config.augment.drop_1, config.augment.drop_2)
        if config.centrality == "uniform":
            return rates
        importance = centrality(config.centrality, self.edge_index, self.plain.pattern.num_rows)
        weighted = [edge_drop_probability(self.edge_index, importance, p=rate) for rate in rates]
        return weighted[0], weighted[1]
