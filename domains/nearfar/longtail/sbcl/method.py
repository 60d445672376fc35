r"""SBCL as a method: contrast of classes at first, then of subclasses and classes, found anew every few epochs.

The warm-up contrasts classes. Then, every ``subclasses.every`` epochs, all rows are embedded as they are, every class
is cut into subclasses of equal size (:mod:`~nearfar.longtail.sbcl.subclasses`), and steps follow the loss of both
(:mod:`~nearfar.longtail.sbcl.loss`): SBCL, Hou et al., ICCV 2023, algorithm 1. The warm-up's contrast is that loss
too, with whole classes (or single rows) for subclasses and nothing else.

Subclasses, temperatures, and the centres that the next clustering begins from are buffers: a run that goes on in the
middle of an interval has those it had. Several processes: each has the whole batch and all subclasses, and encodes its
share of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.adapters import Inputs, in_precision_of, representations, width_of
from nearfar.classification.chosen import chosen_loss
from nearfar.classification.row_batches import RowBatch, RowBatches, epoch_steps
from nearfar.config import OptimConfig
from nearfar.encoders import MLP
from nearfar.labels import keep_most, label_agreement
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.longtail.sbcl.loss import SBCLKeys, sbcl_loss
from nearfar.longtail.sbcl.subclass_batches import rows_of_subclasses
from nearfar.longtail.sbcl.subclass_counts import subclass_counts
from nearfar.longtail.sbcl.subclasses import Subclasses, find_subclasses
from nearfar.objectives import KeyQueue
from nearfar.objectives.ranks import Ranks
from nearfar.runtime import Runtime, initial_weights, stream_seed, to_device
from nearfar.selectable.objective import SelectedObjective
from nearfar.training import EMA, Method, StepContext, StepOutput
from nearfar.training.optim import build_optimizer
from nearfar.training.shares import shares_of

# What is known of the last clustering, logged at every step.
DIAGNOSTICS = (
    "subclass_within",
    "subclass_between",
    "subclass_moved",
    "subclass_size_min",
    "subclass_size_max",
    "class_temperature_min",
    "class_temperature_mean",
    "class_temperature_max",
)


class SBCL(Method):
    """An encoder trained by contrast of subclasses and classes.

    Args:
        config: Loss, clustering and warm-up.
        encoder: ``batch -> (B, m)``; m is ``encoder.dim``, or what a first row shows.
        inputs: Training rows, with two views.
        given: Labels, int64 from 0, shape ``(n,)``.
        num_classes: K; a class may be without a row.

    Attributes:
        encoder: What is trained, and kept.
        projector: Trained with it, for the loss alone.
        subclasses: Of every row, int64, shape ``(n,)``; whole classes before the first clustering.
        temperatures: tau_2 of every class, shape ``(K,)``.
        kept: Rows whose label is trusted, bool, shape ``(n,)``.
        found: The last clustering, of this process; ``None`` before, and after going on from a checkpoint.
    """

    memory_settings: ClassVar[tuple[str, ...]] = ("batch_size", "encoder")

    subclasses: Tensor
    temperatures: Tensor
    centers: Tensor
    kept: Tensor
    parts: Tensor
    diagnostics: Tensor
    given: Tensor

    def __init__(
        self, config: SBCLConfig, encoder: Any, inputs: Inputs, given: Tensor, num_classes: int
    ) -> None:
        super().__init__()
        self.config, self.inputs, self.num_classes = config, inputs, num_classes
        self.epoch = epoch_steps(len(inputs), config.batch_size)
        self.encoder = encoder
        dim = width_of(encoder, inputs)
        with initial_weights(stream_seed(config.seed, "projector")):
            self.projector = MLP(dim, (dim, config.dim))
        q = config.queue
        self.target = EMA(self.projected, q.momentum) if q.size else None
        self.queue = KeyQueue(q.size, config.dim, with_ids=True) if q.size else None
        self.objective = self._objective(config, given, num_classes)
        self._keys: tuple[Tensor, Tensor] | None = None
        c, counts = config.subclasses, np.bincount(given.numpy(), minlength=num_classes)
        most = int(subclass_counts(counts, c.delta, c.rounding).sum()) if c.enabled else 0
        rows = len(inputs) if c.enabled else 0
        self.register_buffer("temperatures", torch.full((num_classes,), config.temperature))
        self.register_buffer("centers", torch.zeros(most, config.dim))
        self.register_buffer("diagnostics", torch.zeros(len(DIAGNOSTICS)))
        self.to(next((p.dtype for p in encoder.parameters() if p.is_floating_point()), torch.float32))
        self.register_buffer("given", given.clone(), persistent=False)
        self.register_buffer("subclasses", given[:rows].clone())
        self.register_buffer("kept", torch.ones(rows, dtype=torch.bool))
        self.register_buffer("parts", torch.zeros(num_classes, dtype=torch.int64))
        self.found: Subclasses | None = None

    @staticmethod
    def batches(config: SBCLConfig, inputs: Inputs, given: Tensor, runtime: Runtime) -> RowBatches:  # noqa: ARG004
        """Rows of every step."""
        return RowBatches(inputs, given, config.batch_size, config.seed)

    @property
    def projected(self) -> nn.Module:
        """Encoder and projector: what the loss sees of a row."""
        return nn.Sequential(self.encoder, self.projector)

    @property
    def warmup_steps(self) -> int:
        """Steps before the first clustering."""
        return round(self.config.warmup_epochs * self.epoch)

    def in_warmup(self, step: int) -> bool:
        """Whether a step knows no subclasses."""
        return not self.config.subclasses.enabled or step < self.warmup_steps

    def is_due(self, step: int) -> bool:
        """Whether subclasses are found before this step: after the warm-up, and then every so many epochs."""
        since = step - self.warmup_steps
        return not self.in_warmup(step) and since % (self.config.subclasses.every * self.epoch) == 0

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """One, over encoder, projector and what a chosen objective has of its own."""
        own = [] if self.objective is None else list(self.objective.loss.parameters())
        return {
            "main": build_optimizer([*self.encoder.parameters(), *self.projector.parameters(), *own], config)
        }

    def train(self, mode: bool = True) -> SBCL:
        """As of any module; keys are always made in evaluation mode."""
        super().train(mode)
        if self.target is not None:
            self.target.eval()
        return self

    def step(self, batch: RowBatch, ctx: StepContext) -> StepOutput:
        """Contrast two views of some rows.

        Args:
            batch: Rows with labels.
            ctx: Of the step.
        """
        if self.is_due(ctx.step):
            self.regroup(ctx.step, ctx.runtime)
        if self.objective is not None and self.in_warmup(ctx.step):
            ranks = shares_of(self.encoder, ctx.runtime.group, len(batch.rows))
            return StepOutput(chosen_loss(self.objective, self.projected, self.inputs, batch, ctx, ranks))
        batch = self._by_subclass(batch, ctx)
        views = self.inputs.two_views(in_precision_of(self, batch.x), ctx.rng("views"))
        ranks = shares_of(self.encoder, ctx.runtime.group, len(batch.rows))
        rows = batch.rows[ranks.own_rows]
        if ranks.group is not None:
            views = (views[0][ranks.own_rows], views[1][ranks.own_rows])
        z, items, keys = self._features(views, rows, ranks)
        c, warm = self.config, self.in_warmup(ctx.step)
        keyed = None if keys is None else SBCLKeys(keys[0], *self._groups(keys[1], warm=warm), keys[1])
        rows_of = (z, *self._groups(items, warm=warm), items)
        if warm:
            loss = sbcl_loss(*rows_of, temperature=c.temperature, beta=0.0, keys=keyed, group=ranks.group)
            return StepOutput(loss)
        loss, (first, second) = sbcl_loss(
            *rows_of,
            temperature=c.temperature,
            class_temperatures=self._temperatures,
            beta=c.beta,
            scale=1.0 if c.base_temperature is None else c.temperature / c.base_temperature,
            keys=keyed,
            group=ranks.group,
            return_terms=True,
        )
        terms = dict(zip(DIAGNOSTICS, self.diagnostics.clone().unbind(), strict=True))
        return StepOutput(loss, {"of_subclasses": first, "of_classes": second, **terms})

    def _objective(self, config: SBCLConfig, given: Tensor, num_classes: int) -> SelectedObjective | None:
        if config.objective is None:
            return None
        sizes: Any = {"dim": config.dim, "num_classes": num_classes, "num_rows": len(given)}
        return SelectedObjective(config.objective, sizes, config.seed, self.projected)

    def after_step(self, ctx: StepContext) -> None:
        """The slow copy follows, and the keys of the step are queued."""
        if self.objective is not None and self.in_warmup(ctx.step):
            self.objective.after_step(self.projected)
        if self.target is not None and self.queue is not None and self._keys is not None:
            self.target.update(self.projected)
            self.queue.enqueue(*self._keys)
            self._keys = None

    @torch.no_grad()
    def regroup(self, step: int, runtime: Runtime) -> None:
        """Embed all rows as they are and find subclasses and temperatures.

        Args:
            step: About to be made; the clustering draws from streams of its number.
            runtime: Of the run; every process takes what the first one found.
        """
        c = self.config
        with torch.autocast(self.temperatures.device.type, enabled=False):
            z = F.normalize(representations(self.projected, self.inputs), dim=1)
        z = runtime.share(z)
        given = self.given.cpu()
        number = (step - self.warmup_steps) // (c.subclasses.every * self.epoch)
        if c.filter.enabled and number == 0:
            self.kept.copy_(keep_most(label_agreement(z, given), given, c.filter.keep))
        kept = self.kept.cpu()
        found = find_subclasses(
            z[kept],
            given[kept],
            self.num_classes,
            subclasses=c.subclasses,
            temperatures=c.class_temperature,
            temperature=c.temperature,
            seed=c.seed,
            number=number,
            earlier=self._earlier if c.subclasses.warm_start and number else lambda k, m: None,  # noqa: ARG005
        )
        before = self.subclasses.cpu()[kept]
        self._remember(found, kept, moved=found.moved(before) if number else 0.0)

    def _remember(self, found: Subclasses, kept: Tensor, moved: float) -> None:
        ids = self.subclasses.cpu()
        ids[kept] = found.ids
        self.subclasses.copy_(ids)
        self.parts.copy_(found.parts)
        self.temperatures.copy_(found.temperatures)
        self.centers[: len(found.centers)].copy_(found.centers)
        here = found.temperatures[found.parts > 0]
        known = (
            found.within,
            found.between(),
            moved,
            found.sizes.min(),
            found.sizes.max(),
            here.min(),
            here.mean(),
            here.max(),
        )
        self.diagnostics.copy_(torch.tensor([float(value) for value in known]).nan_to_num())
        self.found = found

    def _earlier(self, k: int, m: int) -> Tensor | None:
        parts = self.parts.cpu()
        if int(parts[k]) != m:
            return None
        first = int(parts[:k].sum())
        return self.centers[first : first + m].cpu()

    @property
    def _temperatures(self) -> Tensor:
        """By class; a row whose label is not trusted is a class of its own, with tau_1."""
        if not self.config.filter.enabled:
            return self.temperatures
        own = self.temperatures.new_full((len(self.inputs),), self.config.temperature)
        return torch.cat([self.temperatures, own])

    def _groups(self, items: Tensor, *, warm: bool) -> tuple[Tensor, Tensor]:
        """Class and subclass of some rows, as this phase sees them."""
        labels = self.given[items]
        if warm:
            return labels, labels if self.config.warmup_loss == "supcon" else items
        subclasses = self.subclasses[items]
        if not self.config.filter.enabled:
            return labels, subclasses
        kept, apart = self.kept[items], len(self.centers) + items
        return labels.where(kept, self.num_classes + items), subclasses.where(kept, apart)

    def _features(
        self, views: Sequence[Any], rows: Tensor, ranks: Ranks
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Projections of the rows of this process, their items, and the keys they are compared with, if others."""
        rows = to_device(rows, self.temperatures.device)
        if self.target is None or self.queue is None:
            if all(isinstance(view, Tensor) for view in views):
                # One pass, so that batch normalisation sees both.
                z = self.projected(torch.cat(list(views)))
            else:
                z = torch.cat([self.projected(view) for view in views])
            return z, rows.repeat(len(views)), None
        z = self.projected(views[0])
        fresh = F.normalize(self.target(views[1]), dim=1)
        self._keys = ranks.gather_rows(fresh), ranks.gather_rows(rows)
        if not len(self.queue):
            return z, rows, (fresh, rows)
        # Of several processes each brings its part of the queue, so that together they have it once.
        part = slice(ranks.rank, None, len(ranks.rows))
        assert self.queue.ids is not None
        older = self.queue.keys[part].to(fresh.dtype), self.queue.ids[part]
        return z, rows, (torch.cat([fresh, older[0]]), torch.cat([rows, older[1]]))

    def _by_subclass(self, batch: RowBatch, ctx: StepContext) -> RowBatch:
        """The batch, or with ``groups`` another one: subclasses are known to the method alone."""
        c = self.config
        if not c.groups or self.in_warmup(ctx.step):
            return batch
        ids = self.subclasses.cpu()
        rows = rows_of_subclasses(ids, c.groups, c.batch_size // c.groups, ctx.rng("subclass_batch"))
        made = RowBatch(self.inputs.rows(rows), rows, self.given.cpu()[rows])
        sent: RowBatch = to_device(made, self.temperatures.device)
        return sent
