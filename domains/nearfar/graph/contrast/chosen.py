"""An objective chosen by name on the nodes of two views, and what else it may want to see of a graph.

A further view is the graph with nothing dropped; a spoilt version of a node has the features of another one (Velickovic
et al., ICLR 2019); the side features are the nodes' own, the surface score is the degree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nearfar.graph.bounds.evaluation import embeddings
from nearfar.graph.bounds.hops import View
from nearfar.graph.features import Features
from nearfar.graph.intervals import normalised
from nearfar.graph.views import Graph, GraphBatch
from nearfar.objectives.ranks import Ranks
from nearfar.runtime import generator, to_device
from nearfar.selectable.view_batch import ViewBatch
from nearfar.training import StepContext

if TYPE_CHECKING:
    from nearfar.graph.contrast.method import GraphContrast

# Wider features are projected at random to this many; cosines stay (Johnson and Lindenstrauss, 1984).
SIDE = 256


def chosen_loss(
    method: GraphContrast, batch: GraphBatch, z: tuple[Tensor, Tensor], ctx: StepContext
) -> Tensor:
    """The loss between two views that ``objective`` names, a scalar.

    Args:
        method: Has the objective, and encodes.
        batch: Views and nodes.
        z: Embeddings of all nodes in both views, shape ``(n, d)``, or ``(B, d)`` with a closure.
        ctx: Of the step.
    """
    objective = method.objective
    assert objective is not None
    nodes, needs = batch.nodes, objective.needs
    own = None if batch.closure is not None else nodes
    first, second = (method.head(_some(one, own)) for one in z)
    found: dict[str, Any] = {}
    if needs("rows"):
        count = method.graph.plain.pattern.num_rows
        found["rows"] = torch.arange(count, device=first.device) if nodes is None else nodes
    if needs("side"):
        assert method.side is not None
        found["side"] = _some(method.side, nodes)
    if needs("surface"):
        found["surface"] = _some((method.graph.plain.pattern.counts - 1).to(first.dtype), nodes)
    if objective.slow is not None:
        copied: Any = objective.slow.module
        with torch.no_grad():
            slow = method.encode_views(batch, copied[0]).z
            found["target_first"], found["target_second"] = (copied[1](_some(one, own)) for one in slow)
    if needs("more"):
        found["more"] = method.head(_some(_undropped(method, batch), own))[None]
    if needs("wrong"):
        found["wrong"] = method.head(_some(_spoilt(method, batch, ctx), own))[:, None]
    shown = ViewBatch(first, second, ctx.rng("objective"), **found)
    ranks = Ranks.of(ctx.runtime.group, len(first), len(first), first.device)
    loss: Tensor = objective(shown, ranks)
    return loss


class _Scene(NamedTuple):
    """What the encoder looks at: hops, features, and the views' adjacency."""

    hops: Any
    features: Features
    views: tuple[View, View]


def _scene(method: GraphContrast, batch: GraphBatch) -> _Scene:
    dtype = method.encoder.layers().weights[0].dtype
    if batch.closure is None:
        first, second = (View(v.to(dtype), v.to(dtype)) for v in batch.values)
        return _Scene(method.hops, method.features, (first, second))
    first, second = (View(v.first.to(dtype), v.second.to(dtype)) for v in batch.closure.views)
    return _Scene(batch.closure.hops, batch.closure.features, (first, second))


def _undropped(method: GraphContrast, batch: GraphBatch) -> Tensor:
    """Embeddings in the graph as it is."""
    scene, layers, plain = _scene(method, batch), method.encoder.layers(), method.graph.plain
    values = normalised(plain, torch.ones_like(plain.is_self), layers.weights[0].dtype)
    view = View(values, values) if batch.closure is None else scene.hops.view(values)
    return embeddings(scene.hops, layers, scene.features.times(layers.weights[0]), view)


def _spoilt(method: GraphContrast, batch: GraphBatch, ctx: StepContext) -> Tensor:
    """Embeddings in the first view of nodes that have each other's features."""
    scene, layers = _scene(method, batch), method.encoder.layers()
    y = scene.features.times(layers.weights[0])
    order: Tensor = to_device(torch.randperm(len(y), generator=ctx.rng("wrong")), y.device)
    return embeddings(scene.hops, layers, y[order], scene.views[0])


def _some(x: Tensor, nodes: Tensor | None) -> Tensor:
    return x if nodes is None else x[nodes]


def side_features(graph: Graph, features: Features, seed: int) -> Tensor:
    """Features of all nodes, at most ``SIDE`` of them, shape ``(n, p)``.

    Args:
        graph: Says how many there are.
        features: Of its nodes.
        seed: Of the run, whose stream ``side`` the projection is from.
    """
    width = graph.num_features
    if width <= SIDE:
        return features.times(torch.eye(width))
    projection = torch.randn(width, SIDE, generator=generator(seed, "side")) / SIDE**0.5
    return features.times(projection)
