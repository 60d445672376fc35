r"""The base models as one method: two dropped views through one encoder, and a loss between them.

==========  ======================================================================================
``grace``   NT-Xent on projections (Zhu et al., 2020); edges dropped uniformly
``gca``     the same; edges to nodes of high degree are kept more often (Zhu et al., WWW 2021)
``progcl``  negatives weighted by a mixture that tells hard from false ones (Xia et al., ICML 2022)
``costa``   views sketched over nodes, cross-view InfoNCE (Zhang et al., KDD 2022)
``bgrl``    predict the other view of a slow copy of the encoder (Thakoor et al., ICLR 2022)
==========  ======================================================================================

or, with ``objective``, a loss of :mod:`nearfar.selectable` between the projections.

X W_1 is computed once and serves both views (features are hidden by zeroing rows of W_1).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig
from nearfar.errors import ConfigError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.evaluation import embeddings
from nearfar.graph.bounds.hops import View, two_hops
from nearfar.graph.contrast.beta_mixture import BetaMixture
from nearfar.graph.contrast.bgrl import Predictor, bgrl_loss
from nearfar.graph.contrast.chosen import chosen_loss, side_features
from nearfar.graph.contrast.config import GraphContrastConfig
from nearfar.graph.contrast.costa import costa_loss, sketched
from nearfar.graph.contrast.grace import Projector, grace_loss
from nearfar.graph.contrast.progcl import fit_mixture, progcl_loss
from nearfar.graph.datasets import GraphDataset
from nearfar.graph.encoder import GCNEncoder
from nearfar.graph.features import Features
from nearfar.graph.intervals import normalised
from nearfar.graph.views import Graph, GraphBatch, GraphBatches
from nearfar.runtime import Runtime, generator, isolated_rng, to_device
from nearfar.selectable.objective import SelectedObjective
from nearfar.training import EMA, Method, StepContext, StepOutput
from nearfar.training.optim import build_optimizer


class GraphContrast(Method):
    """A 2-layer GCN trained by contrast between two views of a graph.

    Args:
        config: Sizes, augmentation, base model.
        dataset: The graph.

    Attributes:
        encoder: What is kept after training.
    """

    memory_settings: ClassVar[tuple[str, ...]] = ("batch_nodes", "dim", "sampling")

    def __init__(self, config: GraphContrastConfig, dataset: GraphDataset) -> None:
        super().__init__()
        self.config = config
        with isolated_rng():
            self.encoder = GCNEncoder(
                dataset.x.shape[1],
                config.dim,
                activation=config.activation,
                generator=generator(config.seed, "init"),
            )
            self.head = _head(config)
        self.target = EMA(self.encoder, config.momentum) if config.base == "bgrl" else None
        # Two components of a mixture: alpha, beta, weight; part of the checkpoint.
        self.register_buffer("mixture", torch.ones(3, 2))
        self.graph, self.features = Graph.of(dataset), Features.of(dataset.x)
        self.hops = two_hops(self.graph.plain)
        self.objective = self._objective(config)
        wanted = self.objective is not None and self.objective.needs("side")
        side = side_features(self.graph, self.features, config.seed) if wanted else None
        self.register_buffer("side", side, persistent=False)

    mixture: Tensor
    side: Tensor | None

    @property
    def _followed(self) -> nn.Module:
        return nn.ModuleList([self.encoder, self.head])

    def _objective(self, config: GraphContrastConfig) -> SelectedObjective | None:
        if config.objective is None:
            return None
        sizes: Any = {"dim": config.dim, "num_rows": self.graph.plain.pattern.num_rows}
        return SelectedObjective(config.objective, sizes, config.seed, self._followed)

    def _apply(self, fn: Any, recurse: bool = True) -> GraphContrast:
        """Moves the graph along with the parameters; numbers take their precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = fn(torch.empty(0)).device
        self.graph, self.features, self.hops = to_device((self.graph, self.features, self.hops), device)
        return self

    @staticmethod
    def batches(config: Any, dataset: GraphDataset, runtime: Runtime) -> GraphBatches:
        """Views of every step.

        Raises:
            ConfigError: If ProGCL is asked to spread over processes.
        """
        if config.base == "progcl" and runtime.world_size > 1:
            raise ConfigError("base=progcl weighs negatives of one process only; start it without torchrun")
        return GraphBatches(config, dataset, runtime)

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """One, over encoder and head, and what a chosen objective has of its own."""
        own = [] if self.objective is None else list(self.objective.loss.parameters())
        return {"main": build_optimizer([*self.encoder.parameters(), *self.head.parameters(), *own], config)}

    def step(self, batch: GraphBatch, ctx: StepContext) -> StepOutput:
        """The contrast of both views."""
        z1, z2 = self.encode_views(batch).z
        loss = self.contrast_loss(batch, z1, z2, ctx)
        return StepOutput(loss, {"contrast": loss, "z_norm": mean_norm(z1)})

    def encode_views(self, batch: GraphBatch, encoder: GCNEncoder | None = None) -> EncodedViews:
        """Both views through the encoder.

        Args:
            batch: Views and nodes.
            encoder: Another one than the trained one.
        """
        layers = (encoder or self.encoder).layers()
        dtype = layers.weights[0].dtype
        if batch.closure is None:
            hops, features = self.hops, self.features
            views = tuple(View(v.to(dtype), v.to(dtype)) for v in batch.values)
        else:
            hops, features = batch.closure.hops, batch.closure.features
            views = tuple(View(v.first.to(dtype), v.second.to(dtype)) for v in batch.closure.views)
        y = projected(features, layers.weights[0], batch.kept_features)
        z = tuple(embeddings(hops, layers, one, view) for one, view in zip(y, views, strict=True))
        return EncodedViews(layers, y, (z[0], z[1]))

    def contrast_loss(self, batch: GraphBatch, z1: Tensor, z2: Tensor, ctx: StepContext) -> Tensor:
        """The base model's loss, a scalar.

        Args:
            batch: Which nodes are contrasted.
            z1: Embeddings in the first view, shape ``(n, d)``, or ``(B, d)`` with a closure.
            z2: In the second view, same shape.
            ctx: Of the step.
        """
        config = self.config
        if self.objective is not None:
            return chosen_loss(self, batch, (z1, z2), ctx)
        if config.base == "costa":
            return self._costa(batch, z1, z2, ctx)
        own = None if batch.closure is not None else batch.nodes
        q1, q2 = (z if own is None else z[own] for z in (z1, z2))
        if config.base == "bgrl":
            assert self.target is not None
            with torch.no_grad():
                t1, t2 = self.encode_views(batch, self.target.module).z  # type: ignore[arg-type]
            t1, t2 = (z if own is None else z[own] for z in (t1, t2))
            share = len(q1) * ctx.runtime.world_size / batch.total
            return bgrl_loss(self.head(q1), self.head(q2), t1, t2) * share
        h1, h2 = self.head(q1), self.head(q2)
        if config.base == "progcl":
            return progcl_loss(h1, h2, self._mixture(h1, h2, ctx), temperature=config.temperature)
        return grace_loss(h1, h2, temperature=config.temperature, group=ctx.runtime.group)

    def _costa(self, batch: GraphBatch, z1: Tensor, z2: Tensor, ctx: StepContext) -> Tensor:
        rng = ctx.rng("sketch")
        size = max(2, len(z1) // 2)
        rows = sketched(z1, z2, rng, size)
        runtime = ctx.runtime
        if batch.closure is None and batch.total < len(z1):
            chosen = torch.randperm(size, generator=rng)[: batch.total].to(z1.device)
            rows = (rows[0][chosen], rows[1][chosen])
        if runtime.world_size > 1:
            rows = tuple(r.tensor_split(runtime.world_size)[runtime.rank] for r in rows)  # type: ignore[assignment]
        return costa_loss(
            self.head(rows[0]), self.head(rows[1]), temperature=self.config.temperature, group=runtime.group
        )

    def _mixture(self, h1: Tensor, h2: Tensor, ctx: StepContext) -> BetaMixture | None:
        """The mixture, once it has been fitted, in the first step of ``mixture_epoch``."""
        first = self.config.mixture_epoch
        if ctx.step == first:
            found = fit_mixture(h1.detach(), h2.detach(), ctx.rng("mixture"))
            self.mixture.copy_(torch.stack([found.alpha, found.beta, found.weight]))
        return None if ctx.step < first else BetaMixture(*self.mixture.double())

    def after_step(self, ctx: StepContext) -> None:  # noqa: ARG002
        """Slopes stay where bounds hold; the target follows."""
        self.encoder.clamp_slope()
        if self.objective is not None:
            self.objective.after_step(self._followed)
        if self.target is not None:
            self.target.update(self.encoder)

    @torch.no_grad()
    def embed(self) -> Tensor:
        """Embeddings of all nodes of the whole graph, shape ``(n, d)``."""
        layers = self.encoder.layers()
        whole = torch.ones_like(self.graph.plain.is_self)
        values = normalised(self.graph.plain, whole, layers.weights[0].dtype)
        y = self.features.times(layers.weights[0])
        return embeddings(self.hops, layers, y, View(values, values))


class EncodedViews(NamedTuple):
    """Both views after the encoder.

    Attributes:
        layers: The encoder's.
        y: Projected features of each view, shape ``(m0, d1)``.
        z: Embeddings of each view, shape ``(n, d)``.
    """

    layers: TwoLayers
    y: tuple[Tensor, Tensor]
    z: tuple[Tensor, Tensor]


def projected(
    features: Features, weight: Tensor, kept: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """X W_1 of both views; one product where no features are hidden.

    Args:
        features: Of m0 nodes.
        weight: Shape ``(d, d1)``.
        kept: Features that are not hidden, bool, shape ``(d,)``; ``None`` is all.
    """
    if kept[0] is None and kept[1] is None:
        y = features.times(weight)
        return y, y
    first, second = (weight if one is None else weight * one[:, None] for one in kept)
    return features.times(first), features.times(second)


def mean_norm(z: Tensor) -> Tensor:
    """Mean length of the embeddings, to see a model that inflates them.

    Args:
        z: Shape ``(n, d)``.
    """
    mean: Tensor = z.detach().norm(dim=1).mean()
    return mean


def _head(config: GraphContrastConfig) -> nn.Module:
    rng = generator(config.seed, "init", 1)
    kind = Predictor if config.base == "bgrl" else Projector
    return kind(config.dim, config.projection, generator=rng)
