"""What a trained encoder can promise: per node, a lower bound of its contrast over all graphs within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.budget import AugmentationBudget, budget_sampler
from nearfar.graph.checks import check_features
from nearfar.graph.compactness import contrast_vectors, project
from nearfar.graph.intervals import Norm, edge_interval, normalised
from nearfar.graph.layers import Given, closed_form
from nearfar.graph.surroundings import Surroundings
from nearfar.optional import require
from nearfar.runtime import generator

# Arithmetic is not rounded outwards; this much of a bound is given up for it.
MARGIN = 1e-6


@dataclass(frozen=True)
class Certificate:
    """The contrast of every node: as it is, at least, and at the worst graph that was tried.

    Attributes:
        p: Drop rate of the budget.
        bound: No graph within the budget gives less, float64, shape ``(n,)``.
        score: On the graph as it is, shape ``(n,)``.
        sampled: Least of the sampled graphs: the true minimum lies between ``bound`` and this, shape ``(n,)``.
        degree: Edges that point to every node, shape ``(n,)``.
        budget: Of these, how many may be dropped, shape ``(n,)``.
        over_budget: Share of nodes at which independent dropping at rate p exceeded the budget, in one draw.
    """

    p: float
    bound: Tensor
    score: Tensor
    sampled: Tensor
    degree: Tensor
    budget: Tensor
    over_budget: float

    @property
    def certified(self) -> Tensor:
        """Nodes that obey the contrastive principle whatever is dropped within the budget, bool, shape ``(n,)``."""
        return self.bound > 0

    @property
    def share(self) -> float:
        """Share of certified nodes."""
        return float(self.certified.double().mean())

    def summary(self) -> dict[str, float]:
        """Means over the nodes, as numbers to log."""
        return {
            "certified_share": self.share,
            "bound": float(self.bound.mean()),
            "score": float(self.score.mean()),
            "sampled": float(self.sampled.mean()),
            "gap": float((self.sampled - self.bound).mean()),
            "over_budget": self.over_budget,
        }


def certify(
    model: nn.Module | TwoLayers,
    data: Any,
    p: float = 0.4,
    *,
    budget: AugmentationBudget | None = None,
    z_other: Tensor | None = None,
    activations: Sequence[Given] | None = None,
    samples: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Certificate:
    """Certify a trained encoder on a graph.

    Args:
        model: Two layers of PyG's GCNConv, as :class:`nearfar.graph.NodeCompactness` takes them, or their weights.
        data: Anything with ``x`` and ``edge_index``, such as PyG's ``Data``; no self loops, no edge twice.
        p: Drop rate.
        budget: Another rule than the published one at this rate.
        z_other: Embeddings that nodes are contrasted with, shape ``(n, d)``; ``None``: those of the graph as it is.
        activations: As of :class:`nearfar.graph.NodeCompactness`.
        samples: Graphs within the budget that are tried, for the upper end of the sandwich.
        seed: Of these; the global random numbers are not touched.
        dtype: Of the arithmetic; float32 halves the memory of very large graphs.

    Raises:
        ConfigError: If the encoder is not covered, or p is not in [0, 1).
        DataError: If features or edges cannot be used.
    """
    if samples < 0:
        raise ConfigError(f"samples: at least 0 expected, got {samples}; 0 tries none")
    rule = budget or AugmentationBudget(p)
    norm: Norm = "gcn"
    if isinstance(model, TwoLayers):
        layers = model
    else:
        layers, norm = closed_form(model, activations)
    with torch.no_grad():
        layers = layers.to(dtype)
        x, edges = data.x, data.edge_index
        check_features(x)
        num_nodes, width = x.shape
        if width != len(layers.weights[0]):
            raise DataError(
                f"x: {len(layers.weights[0])} features expected by layer 1, got shape {tuple(x.shape)}; certify on "
                "data like those of the training"
            )
        q = rule.of(edges, num_nodes)
        intervals = edge_interval(edges, num_nodes, q, norm, directed=rule.directed, dtype=dtype)
        y = project(x, layers.weights[0])

        def score(kept: Tensor) -> Tensor:
            return at_one_graph.bound(layers, y, w, normalised(intervals, kept, dtype))

        whole = torch.ones_like(intervals.is_self)
        at_one_graph = Surroundings.of(intervals, "sampled")
        if z_other is None:
            z_other = at_one_graph.embeddings(layers, y, normalised(intervals, whole, dtype))
        if z_other.shape != (num_nodes, layers.weights[1].shape[1]):
            expected = (num_nodes, layers.weights[1].shape[1])
            raise DataError(
                f"z_other: shape {expected} expected, got {tuple(z_other.shape)}; embed all nodes by the same encoder"
            )
        if not bool(z_other.isfinite().all()):
            node = int((~z_other.isfinite()).any(1).nonzero()[0])
            raise DataError(
                f"z_other: the embedding of node {node} is not finite; train without divergence first"
            )
        w = contrast_vectors(z_other.to(dtype))
        bound = Surroundings.of(intervals, "certified").bound(layers, y, w)
        plain = score(whole)
        least, place = plain, intervals.pattern.places(edges[1], edges[0])
        for number in range(samples):
            rng = generator(seed, "certify", number)
            _, stays = budget_sampler(edges, q, rng, p=rule.p, directed=rule.directed)
            least = torch.minimum(least, score(intervals.is_self.index_copy(0, place, stays)))
        degree = intervals.degree - (1 if norm == "gcn" else 0)
        lost = _lost_at_random(edges, rule.p, generator(seed, "certify", samples), num_nodes)
        return Certificate(
            p=rule.p,
            bound=bound - MARGIN * (1 + bound.abs()),
            score=plain,
            sampled=least,
            degree=degree,
            budget=q,
            over_budget=float((lost > q).double().mean()),
        )


def _lost_at_random(edges: Tensor, p: float, rng: torch.Generator, num_nodes: int) -> Tensor:
    gone = (torch.rand(edges.shape[1], generator=rng) < p).to(edges.device)
    return torch.zeros(num_nodes, dtype=torch.int64, device=edges.device).index_add(0, edges[1], gone.long())


def plot_compactness(certificates: Sequence[Certificate], path: Path) -> None:
    """Compactness against degree: the bound of every node, and the share certified in each range of degrees.

    Args:
        certificates: One for each drop rate.
        path: The picture; its ending says the format.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    figure_class = require("matplotlib.figure", "the plot of compactness").Figure
    figure = figure_class(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for one in certificates:
        degree = one.degree.clamp(min=1).cpu()
        left.plot(degree, one.bound.cpu(), ".", markersize=3, alpha=0.4, label=f"p = {one.p:g}")
        octave = degree.double().log2().floor().long()
        count = torch.bincount(octave).double()
        share = torch.bincount(octave, weights=one.certified.double().cpu()) / count.clamp(min=1)
        shown = count > 0
        right.plot(2.0 ** torch.arange(len(count))[shown], share[shown], "o-", label=f"p = {one.p:g}")
    left.axhline(0, color="black", linewidth=0.8)
    left.set(xscale="log", xlabel="degree", ylabel="lower bound of compactness")
    right.set(xscale="log", xlabel="degree, from", ylabel="share certified", ylim=(-0.03, 1.03))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
