r"""RCAL as a method: representations without labels, then a classifier that they keep from trusting every label.

Stage one contrasts views (:mod:`~nearfar.calibration.rcal.pretraining`). Its representations z0 are kept: Gaussians are
fitted to them (:mod:`nearfar.calibration.gaussians`), and in stage two the encoder pays for leaving them
(:mod:`~nearfar.calibration.rcal.loss`). Each step of stage two moves encoder and head on real rows, then the head alone
on draws from the Gaussians, with an optimiser and a momentum of its own (Zhang et al., ICCV 2023, section 3.3).

Several processes: each has the whole batch and draws the same numbers; through the encoder goes its share of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.adapters import Inputs, in_precision_of, representations, width_of
from nearfar.calibration.gaussians import ClassGaussians
from nearfar.calibration.rcal.batches import StageBatches, unlabelled_steps
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.loss import Mixture, classification_loss, drift, soft_labels
from nearfar.calibration.rcal.pretraining import Pretraining
from nearfar.classification.chosen import chosen_loss
from nearfar.classification.row_batches import RowBatch, epoch_steps
from nearfar.config import OptimConfig
from nearfar.errors import ConfigError
from nearfar.objectives.ranks import Ranks
from nearfar.objectives.views import at_least_float32
from nearfar.runtime import Runtime, initial_weights, stream_seed, to_device
from nearfar.selectable.objective import SelectedObjective
from nearfar.training import Method, StepContext, StepOutput, Update
from nearfar.training.optim import PEAK_LR, build_optimizer, lr_factor
from nearfar.training.shares import shares_of

COSINE = OptimConfig(schedule="cosine")


class RCAL(Method):
    """An encoder and a linear head trained on noisy, long-tailed labels.

    Args:
        config: Both stages.
        encoder: ``batch -> (B, m)``; m is ``encoder.dim``, or what a first row shows.
        inputs: Training rows and what may be done to them.
        given: Labels as given, int64 from 0, shape ``(n,)``.
        num_classes: K; a class may be without a row.
        head: ``(B, m) -> (B, K)``; linear by default.

    Attributes:
        encoder: What both stages train.
        head: The classifier behind it.
        anchor: Representations of stage one, shape ``(n, m)``; zero before.
        kept: Rows the Gaussians are fitted to, bool, shape ``(n,)``.
        pretraining_steps: Length of stage one.
    """

    memory_settings: ClassVar[tuple[str, ...]] = ("batch_size", "pretrain.batch_size", "encoder")

    anchor: Tensor
    kept: Tensor
    calibrated: Tensor
    counts: Tensor

    def __init__(
        self,
        config: RCALConfig,
        encoder: Any,
        inputs: Inputs,
        given: Tensor,
        num_classes: int,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.inputs, self.given, self.num_classes = config, inputs, given.cpu(), num_classes
        self.epoch = epoch_steps(len(inputs), config.batch_size)
        self.pretraining_steps = unlabelled_steps(len(inputs), config)
        dim = width_of(encoder, inputs)
        self.encoder = encoder
        with initial_weights(stream_seed(config.seed, "head")):
            self.head = nn.Linear(dim, num_classes) if head is None else head
            self.pretraining = (
                Pretraining(encoder, dim, config.pretrain, chosen=config.objective is not None)
                if config.pretrain.epochs
                else None
            )
        self.objective = self._objective(config)
        rows = len(inputs) if config.uses_stage_one else 0
        self.register_buffer("anchor", torch.zeros(rows, dim))
        self.to(next((p.dtype for p in encoder.parameters() if p.is_floating_point()), torch.float32))
        self.register_buffer("kept", torch.ones(rows, dtype=torch.bool))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))
        self.register_buffer("counts", torch.bincount(self.given, minlength=num_classes), persistent=False)
        self.gaussians: ClassGaussians | None = None
        self.register_load_state_dict_post_hook(_forget_gaussians)  # type: ignore[no-untyped-call]

    @staticmethod
    def batches(config: RCALConfig, inputs: Inputs, given: Tensor, runtime: Runtime) -> StageBatches:  # noqa: ARG004
        """Rows of every step."""
        return StageBatches(inputs, given, config)

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """``pretrain`` over encoder and projector, ``real`` over encoder and head, ``synthetic`` over the head."""
        encoder, head = list(self.encoder.parameters()), list(self.head.parameters())
        p, found = self.config.pretrain, {}
        if self.pretraining is not None:
            own = config.model_copy(update={"name": p.optimizer, "lr": p.lr, "weight_decay": p.weight_decay})
            extra = [] if self.objective is None else list(self.objective.loss.parameters())
            found["pretrain"] = build_optimizer(
                [*encoder, *self.pretraining.projector.parameters(), *extra], own
            )
        found["real"] = build_optimizer(head, config, lr=self.config.head_lr)
        if encoder:
            found["real"].add_param_group({"params": encoder, PEAK_LR: config.lr, "lr": config.lr})
        if self.config.gaussians.enabled:
            plain = config.model_copy(update={"weight_decay": 0.0})
            found["synthetic"] = build_optimizer(head, plain, lr=self.config.gaussians.lr)
        return found

    def learning_rate_factor(self, optimizer: str, step: int) -> float | None:
        """A cosine to 0 in stage one, a tenth at every milestone of stage two, constant on draws.

        Without milestones stage two follows ``optim.schedule``.
        """
        if optimizer == "pretrain":
            return lr_factor(COSINE, min(step, self.pretraining_steps), self.pretraining_steps)
        if optimizer == "synthetic":
            return 1.0
        if not self.config.milestones:
            return None
        epoch = (step - self.pretraining_steps) // self.epoch
        return 0.1 ** sum(epoch >= milestone for milestone in self.config.milestones)

    def updates(self, step: int) -> Sequence[Update]:
        """Stage one has one update a step, stage two one on real rows and one on draws."""
        if step < self.pretraining_steps:
            return (Update("pretrain", self.contrast_step),)
        real = Update("real", self.step)
        if not self.config.gaussians.enabled:
            return (real,)
        return real, Update("synthetic", self.draws_step, "synthetic_")

    def contrast_step(self, batch: RowBatch, ctx: StepContext) -> StepOutput:
        """Stage one: pick the other view of a row.

        Args:
            batch: Some rows.
            ctx: Of the step.
        """
        assert self.pretraining is not None
        if self.objective is not None:
            ranks = self._ranks(ctx, len(batch.rows))
            loss = chosen_loss(self.objective, self._projected, self.inputs, batch, ctx, ranks)
            return StepOutput(loss, {"contrast": loss.detach()})
        first, second = self.inputs.two_views(in_precision_of(self, batch.x), ctx.rng("views"))
        ranks = self._ranks(ctx, len(batch.rows))
        own = (first, second) if ranks.group is None else (first[ranks.own_rows], second[ranks.own_rows])
        loss = self.pretraining.loss(self.encoder, *own, ranks)
        return StepOutput(loss, {"contrast": loss.detach()})

    def step(self, batch: RowBatch, ctx: StepContext) -> StepOutput:
        """Stage two on real rows: mixed rows, mixed labels, and the price of drifting from stage one.

        Args:
            batch: Some rows with labels.
            ctx: Of the step.
        """
        self.calibrate()
        c, size = self.config, len(batch.rows)
        x = self.inputs.weak(in_precision_of(self, batch.x), ctx.rng("augment"))
        mixture = Mixture.draw(self.anchor.new_empty(size, 0), c.mixup, ctx.rng("mixup"))
        weights = self.kept[batch.rows] if c.real_rows == "kept" else None
        targets = mixture.of(soft_labels(batch.given, self.num_classes, weights, self.anchor.dtype))
        anchor = self.anchor[batch.rows] if c.beta > 0 else None
        ranks = self._ranks(ctx, size)
        z, z_mixed, anchor = self._encoded(x, mixture, anchor, ranks)
        counts = self.counts if c.loss == "balanced_softmax" else None
        mass = size if weights is None else targets.sum().clamp(min=1)
        real = ranks.loss(classification_loss(self.head(z_mixed), targets[ranks.own_rows], counts) / mass)
        terms = {"cross_entropy": real.detach()}
        loss = real
        if anchor is not None:
            left = ranks.loss(drift(z, anchor).sum() / size)
            loss = real + c.beta * left
            terms |= {"regularizer": left.detach()}
        return StepOutput(loss, terms)

    def draws_step(self, batch: RowBatch, ctx: StepContext) -> StepOutput:
        """Stage two on draws from the Gaussians: the head alone, with a flat prior over classes.

        Args:
            batch: Says how many.
            ctx: Of the step.
        """
        assert self.gaussians is not None
        rng = ctx.rng("draws")
        classes = torch.multinomial(self._share_of_draws, len(batch.rows), replacement=True, generator=rng)
        with torch.autocast(self.anchor.device.type, enabled=False):
            drawn = self.gaussians.draw(classes, rng).to(self.anchor.dtype)
        targets: Tensor = to_device(classes, drawn.device)
        loss = F.cross_entropy(at_least_float32(self.head(drawn)), targets)
        return StepOutput(loss, {})

    @torch.no_grad()
    def calibrate(self) -> None:
        """Keep the representations of stage one and fit the Gaussians to them, unless that was done."""
        if self.gaussians is not None or not self.config.uses_stage_one:
            return
        g = self.config.gaussians
        made = ClassGaussians(
            outlier=g.outlier,
            keep=g.keep,
            threshold=g.threshold,
            q=g.q,
            gamma=g.gamma,
            alpha=g.alpha,
            weighting=g.weighting,
            ridge=g.ridge,
            head_mass=g.head_mass,
        )
        done, classes = bool(self.calibrated), list(range(self.num_classes))
        with torch.autocast(self.anchor.device.type, enabled=False):
            if not done:
                self.anchor.copy_(representations(self.encoder, self.inputs))
            made.fit(self.anchor, self.given, inliers=self.kept if done else None, classes=classes)
        self.kept.copy_(made.inlier_mask_)
        self.calibrated.fill_(True)
        wanted = made.draws_per_class(g.draws)
        # All classes are as large as the largest: nothing to fill.
        wanted = wanted if wanted.any() else made.draws_per_class("equal")
        self._share_of_draws = wanted / wanted.max()
        self.gaussians = made

    def after_step(self, ctx: StepContext) -> None:
        """Stage one: the key encoder follows."""
        if self.pretraining is not None and ctx.step < self.pretraining_steps:
            self.pretraining.after_step(self.encoder)
            if self.objective is not None:
                self.objective.after_step(self._projected)

    @property
    def _projected(self) -> nn.Module:
        assert self.pretraining is not None
        return nn.Sequential(self.encoder, self.pretraining.projector)

    def _objective(self, config: RCALConfig) -> SelectedObjective | None:
        if config.objective is None or self.pretraining is None:
            return None
        sizes: Any = {
            "dim": config.pretrain.dim,
            "num_classes": self.num_classes,
            "num_rows": len(self.given),
        }
        return SelectedObjective(config.objective, sizes, config.seed, self._projected)

    def _ranks(self, ctx: StepContext, size: int) -> Ranks:
        """Who encodes which rows of a batch."""
        return shares_of(self.encoder, ctx.runtime.group, size)

    def _encoded(
        self, x: Any, mixture: Mixture, anchor: Tensor | None, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Representations that pay for drifting, those that are classified, and where the former were."""
        c = self.config
        mixed = self.inputs.mix(x, mixture.order, mixture.share) if c.mixup > 0 else x
        if mixed is None:  # rows of this kind cannot be mixed, what is made of them can
            if ranks.group is not None:
                raise ConfigError("mixup: rows of this kind are mixed in one process only; set mixup=0")
            z = self.encoder(x)
            return z, mixture.of(z), anchor
        if ranks.group is not None:
            x, mixed = x[ranks.own_rows], mixed[ranks.own_rows]
            anchor = None if anchor is None else anchor[ranks.own_rows]
        if c.mixup == 0 or anchor is None:
            z = self.encoder(mixed)
            return z, z, anchor
        if c.reg_on == "mixed":
            if ranks.group is not None:
                raise ConfigError("reg_on=mixed: one process only")
            z = self.encoder(mixed)
            return z, z, mixture.of(anchor)
        # One pass, so that batch normalisation sees both.
        z, z_mixed = self.encoder(torch.cat([x, mixed])).chunk(2)
        return z, z_mixed, anchor


def _forget_gaussians(method: RCAL, _: object) -> None:
    """They follow from other representations now."""
    method.gaussians = None
