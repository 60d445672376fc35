r"""POT on a base model: every node's compactness in both views joins the loss.

.. math:: L = (1 - \kappa)\, L_{contrast} + \frac{\kappa}{2} \sum_{v = 1, 2} \frac{1}{|B|} \sum_{i \in B}
          \mathrm{softplus}(-\lambda f^{(v)}_i)

View 1 is bounded under its own budget with contrast vectors from view 2, and the other way round; gradients flow
through the contrast vectors too. ``compactness.mode`` says what f is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nearfar.graph.bounds.hops import View
from nearfar.graph.budget import AugmentationBudget
from nearfar.graph.compactness import contrast_vectors
from nearfar.graph.contrast.method import EncodedViews, GraphContrast, mean_norm
from nearfar.graph.datasets import GraphDataset
from nearfar.graph.intervals import IntervalAdjacency, edge_interval
from nearfar.graph.pot.config import POTConfig
from nearfar.graph.pot.loss import POTLoss
from nearfar.graph.surroundings import AT_ONE_GRAPH, Surroundings
from nearfar.graph.views import Graph, GraphBatch, GraphBatches
from nearfar.runtime import Runtime, generator, to_device
from nearfar.training import StepContext, StepOutput


@dataclass(frozen=True, eq=False)
class Bounded:
    """Which nodes of a batch are bounded, and from what.

    Attributes:
        nodes: In the whole graph, int64, shape ``(k,)``; ``None`` is all.
        places: Rows they have among the embeddings, shape ``(k,)``; ``None`` is all.
        total: How many all processes bound.
        surroundings: For each view; ``None`` takes the whole graph's.
        values: For each view, its adjacency as the surroundings want it.
    """

    nodes: Tensor | None
    places: Tensor | None
    total: int
    surroundings: tuple[Surroundings, Surroundings] | None
    values: tuple[Tensor | View, Tensor | View]


class POT(GraphContrast):
    """Provable training (Yu et al., NeurIPS 2023) of a base model.

    Args:
        config: Base model, kappa and the kind of compactness.
        dataset: The graph.
    """

    config: POTConfig

    def __init__(self, config: POTConfig, dataset: GraphDataset) -> None:
        super().__init__(config, dataset)
        self.loss = POTLoss(config.kappa, config.logit_scale)
        intervals = intervals_of(config, self.graph, self.graph.drop_probabilities(config))
        self.whole = tuple(Surroundings.of(one, config.compactness.mode) for one in intervals)

    def _apply(self, fn: Any, recurse: bool = True) -> POT:
        super()._apply(fn, recurse)
        probe = fn(torch.empty(0))
        self.whole = tuple(
            to_device(one, probe.device).to_dtype(probe.dtype) for one in getattr(self, "whole", ())
        )
        return self

    @staticmethod
    def batches(config: POTConfig, dataset: GraphDataset, runtime: Runtime) -> GraphBatches:
        """Views of every step, and what their nodes' bounds are computed from."""
        source = GraphContrast.batches(config, dataset, runtime)
        source.extend = _Neighbourhoods(source)
        return source

    def step(self, batch: GraphBatch, ctx: StepContext) -> StepOutput:
        """Contrast and compactness."""
        encoded = self.encode_views(batch)
        contrast = self.contrast_loss(batch, *encoded.z, ctx)
        scores = self.compactness(batch, encoded)
        bounded = batch.extra
        assert isinstance(bounded, Bounded)
        share = len(scores[0]) * ctx.runtime.world_size / bounded.total
        pot = self.loss.penalty(*scores) * share
        both = torch.cat(scores).detach()
        terms = {
            "contrast": contrast,
            "pot": pot,
            "compactness": both.mean(),
            "positive_share": (both > 0).to(both.dtype).mean(),
            "z_norm": mean_norm(encoded.z[0]),
        }
        return StepOutput(self.loss.mix(contrast, pot), terms)

    def compactness(self, batch: GraphBatch, encoded: EncodedViews) -> tuple[Tensor, Tensor]:
        """Of the bounded nodes in both views, shape ``(k,)`` each.

        Args:
            batch: With :class:`Bounded`.
            encoded: Its views.
        """
        bounded = batch.extra
        assert isinstance(bounded, Bounded)
        dtype = encoded.layers.weights[0].dtype
        surroundings = bounded.surroundings or self.whole
        scores = []
        for view in (0, 1):
            one = surroundings[view].to_dtype(dtype)
            places = None if one.takes_all_vectors else bounded.places
            w = self._contrast_vectors(encoded.z[1 - view], places)
            values = in_dtype(bounded.values[view], dtype) if one.mode in AT_ONE_GRAPH else None
            scores.append(one.bound(encoded.layers, encoded.y[view], w, values))
        return scores[0], scores[1]

    def _contrast_vectors(self, z: Tensor, places: Tensor | None) -> Tensor:
        """Against the mean of all nodes there are; of the bounded ones only with ``node_list=official``."""
        if places is None:
            return contrast_vectors(z)
        if self.config.compactness.node_list == "official":
            return contrast_vectors(z[places])
        return contrast_vectors(z)[places]


class _Neighbourhoods:
    """What bounds are computed from, for the nodes of every step; the ``extra`` of their batches.

    Args:
        source: Of the batches.
    """

    def __init__(self, source: GraphBatches) -> None:
        self.source = source
        config = source.config
        assert isinstance(config, POTConfig)
        self.config, self.runtime = config, source.runtime

    @cached_property
    def intervals(self) -> tuple[IntervalAdjacency, IntervalAdjacency]:
        """Of the whole graph; not needed where all nodes are bounded."""
        return intervals_of(self.config, self.source.graph, self.source.drop)

    def __call__(self, batch: GraphBatch, values: tuple[Tensor, Tensor], step: int) -> Bounded:
        c = self.config.compactness
        nodes, picked, total = batch.nodes, None, batch.total
        if c.batch_nodes is not None and c.batch_nodes < total:
            nodes = torch.arange(total) if nodes is None else nodes
            picked, total = self._picked(len(nodes), c.batch_nodes, step), c.batch_nodes
            nodes = nodes[picked]
        if nodes is None:
            return Bounded(None, None, total, None, values)
        cut = c.node_list == "official"
        first, second = (Surroundings.of(one, c.mode, nodes, cut=cut) for one in self.intervals)
        if batch.closure is None:
            return Bounded(nodes, nodes, total, (first, second), values)
        sources = batch.closure.hops.sources
        assert sources is not None
        first, first_values = first.on_its_own(sources, values[0])
        second, second_values = second.on_its_own(sources, values[1])
        return Bounded(nodes, picked, total, (first, second), (first_values, second_values))

    def _picked(self, available: int, total: int, step: int) -> Tensor:
        """This process's share of ``total``, among the nodes it contrasts."""
        share = total // self.runtime.world_size + (self.runtime.rank < total % self.runtime.world_size)
        rng = generator(self.config.seed, "rows", step, self.runtime.rank)
        return torch.randperm(available, generator=rng)[:share]


def in_dtype(values: Tensor | View, dtype: torch.dtype) -> Tensor | View:
    """An augmented graph in another precision.

    Args:
        values: Shape ``(E,)``, or of both layers.
        dtype: The precision.
    """
    return (
        values.to(dtype)
        if isinstance(values, Tensor)
        else View(*(v.to(dtype) for v in (values.first, values.second)))
    )


def intervals_of(
    config: POTConfig, graph: Graph, probabilities: tuple[float | Tensor, float | Tensor]
) -> tuple[IntervalAdjacency, IntervalAdjacency]:
    """Bounds of the adjacency under the budgets of both views.

    Args:
        config: Drop rates and kind of budget.
        graph: The graph.
        probabilities: Of dropping an edge in each view, one or for each edge, shape ``(E0,)``.
    """
    found = []
    rates = (config.augment.drop_1, config.augment.drop_2)
    c, directed, edges = config.compactness, config.augment.directed, graph.edge_index
    num_nodes = graph.plain.pattern.num_rows
    for rate, probability in zip(rates, probabilities, strict=True):
        budget = AugmentationBudget(rate, c.budget, delta=c.delta, directed=directed)
        q = budget.of(edges, num_nodes, probability if isinstance(probability, Tensor) else None)
        tight = c.mode != "surrogate"
        found.append(edge_interval(edges, num_nodes, q, directed=directed, tight=tight))
    return found[0], found[1]
