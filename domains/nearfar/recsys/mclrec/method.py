r"""MCLRec as a method: next-item loss, contrast of augmented histories, augmenters that learn what to contrast.

.. math::
    L_0 = L_{rec} + \lambda L_{cl1} + \beta (L_{cl2} + \rho R), \qquad L_1 = L_{cl2} + \rho R

The encoder descends L_0 with the augmenters held fixed, the augmenters descend L_1 with the encoder held fixed;
``schedule`` says in which order. Nothing is differentiated twice: the paper's "meta-optimisation" is this alternation.

Differs from the official code: the next-item loss is position-parallel over whole windows (equal to its one row per
prefix), while the contrast is taken over ``contrast.rows`` prefixes drawn uniformly from all training prefixes, the law
by which the official batches are drawn; augmenters are trained on encodings without gradient, which gives them the same
update; they are part of the checkpoint; and by default the encoder moves once a batch instead of twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig
from nearfar.recsys.mclrec.augmenters import Augmenters
from nearfar.recsys.mclrec.batches import ContrastBatch, ContrastBatches, Views
from nearfar.recsys.mclrec.chosen import chosen_loss
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.mclrec.losses import spread
from nearfar.recsys.mclrec.objective import Objective, Terms
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.sasrec.method import SASRec
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch
from nearfar.runtime import Runtime
from nearfar.selectable.objective import SelectedObjective
from nearfar.training import BatchSource, StepContext, StepOutput, Update, chunked_backward
from nearfar.training.optim import build_optimizer


class MCLRec(SASRec):
    """SASRec regularised by contrast between data views and learnt model views of histories.

    Args:
        config: Sizes, dropout and the contrast.
        split: Training histories; fixes the number of items.

    Attributes:
        augmenters: Not needed after training.
    """

    memory_settings: ClassVar[tuple[str, ...]] = (*SASRec.memory_settings, "contrast.rows")

    def __init__(self, config: MCLRecConfig, split: LeaveOneOut) -> None:
        super().__init__(config, split)
        self.config = config
        a = config.augmenters
        self.objective = Objective(config.contrast, a, config.schedule)
        self.augmenters = Augmenters(config.dim, a.kind, shared=a.shared, seed=config.seed)
        self.chosen = self._chosen(config, split.data.num_items + 1)

    @staticmethod
    def batches(config: MCLRecConfig, split: LeaveOneOut, runtime: Runtime) -> BatchSource:  # type: ignore[override]
        """Windows of the training histories, and views of prefixes."""
        return ContrastBatches(config, split, runtime)

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """``main`` over the encoder, and ``augmenters``; one for both where they move at once.

        Adam treats every parameter on its own, so one optimiser over both equals two.
        """
        encoder, augmenters = list(self.encoder.parameters()), list(self.augmenters.parameters())
        if self.chosen is not None:  # what it has of its own is trained with the encoder
            encoder += self.chosen.loss.parameters()
        if not self.objective.learns_augmenters:
            return {"main": build_optimizer(encoder, config)}
        if not self.objective.alternates:
            return {"main": build_optimizer([*encoder, *augmenters], config)}
        return {"main": build_optimizer(encoder, config), "augmenters": build_optimizer(augmenters, config)}

    def updates(self, step: int) -> Sequence[Update]:  # noqa: ARG002
        """Who moves in which order; by ``schedule``."""
        encoder = Update(
            "main", self.step, follows=("encoder.", "chosen.") if self.objective.two_losses else ""
        )
        again = Update("main", self.step, "again_")
        augmenters = Update("augmenters", self.augmenter_step, "augmenters_")
        first, *others = self.objective.stages
        assert first == "encoder"
        return (encoder, *(again if stage == "encoder" else augmenters for stage in others))

    def step(self, batch: ContrastBatch, ctx: StepContext) -> StepOutput:  # type: ignore[override]
        """The encoder's loss L_0; with schedule ``simultaneous`` the augmenters' gradient comes along."""
        if self.config.contrast.form == "spread" and self.config.contrast.weight > 0:
            return self._spread_step(batch.windows, ctx)
        rec = self.recommendation_loss(batch.windows, ctx)
        if batch.views is None:
            return StepOutput(rec, {"rec": rec}, descended=ctx.chunks > 1)
        views, terms = batch.views, {"rec": rec}
        if ctx.chunks == 1 or self.chosen is not None:
            found = self._contrastive(self.encode(views), batch, ctx, terms)
            if ctx.chunks == 1:
                return StepOutput(rec + found, terms)
            # The windows have descended in chunks; what a chosen objective sees is encoded at once.
            with torch.autocast(found.device.type, enabled=False):
                found.backward()
            return StepOutput(rec + found.detach(), terms, descended=True)
        contrastive = chunked_backward(
            _LastState(self.encoder),
            (views.items, views.lengths),
            lambda h: self._contrastive(h[views.order], batch, ctx, terms),
            -(-len(views.items) // ctx.chunks),
        )
        return StepOutput(rec + contrastive, terms, descended=True)

    def augmenter_step(self, batch: ContrastBatch, ctx: StepContext) -> StepOutput:
        """The augmenters' loss L_1; user vectors are constants to it."""
        assert batch.views is not None
        with torch.no_grad():
            h = self.encode(batch.views)
        terms = self.objective.augmenter_terms(h, self.augmenters, batch.views.ids, ctx.runtime.group)
        loss = terms["cl2"] + self.objective.own_regulariser_weight * terms["reg"]
        return StepOutput(loss, terms)

    def encode(self, views: Views, encoder: SASRecEncoder | None = None) -> Tensor:
        """User vectors of first views, then of second views, shape ``(2 B, d)``.

        Args:
            views: Of histories.
            encoder: Another one than the trained one.
        """
        return (encoder or self.encoder).last_of_groups(views.pieces())[views.order]

    def after_step(self, ctx: StepContext) -> None:
        """As of SASRec; a chosen objective's slow copy follows, too."""
        super().after_step(ctx)
        if self.chosen is not None:
            self.chosen.after_step(self.encoder)

    def _chosen(self, config: MCLRecConfig, num_classes: int) -> SelectedObjective | None:
        if config.objective is None:
            return None
        sizes: Any = {"dim": config.dim, "num_classes": num_classes}
        return SelectedObjective(config.objective, sizes, config.seed, self.encoder)

    def _contrastive(self, h: Tensor, batch: ContrastBatch, ctx: StepContext, terms: Terms) -> Tensor:
        """Weighted contrastive terms of L_0; adds them unweighted to ``terms``."""
        assert batch.views is not None
        chosen = None if self.chosen is None else partial(chosen_loss, self, batch, h, ctx)
        found = self.objective.encoder_terms(h, self.augmenters, batch.views.ids, ctx.runtime.group, chosen)
        terms["norm"] = h.detach().norm(dim=-1).mean()
        terms.update({name: term.detach() for name, term in found.items()})
        return self.objective.weighted(found)

    def _spread_step(self, windows: SequenceBatch, ctx: StepContext) -> StepOutput:
        """Next-item loss, and the spread of some of the same states: no views, no second encoding.

        Several processes each choose from their own states.
        """
        terms: Terms = {}

        def loss_of(padded: Tensor) -> Tensor:
            states = padded.flatten(0, 1).index_select(0, windows.places)
            rec = self.mean_loss(states, windows, ctx)
            rows = -(-self.config.contrast.rows // ctx.runtime.world_size)
            chosen = torch.randperm(len(states), generator=ctx.rng("spread", ctx.runtime.rank))[:rows]
            apart = spread(states.index_select(0, chosen.to(states.device)), ctx.runtime.group)
            terms.update(rec=rec.detach(), spread=apart.detach())
            return rec + self.config.contrast.weight * apart

        if ctx.chunks == 1:
            return StepOutput(loss_of(self.encoder(windows.items)), terms)
        size = -(-len(windows.items) // ctx.chunks)
        return StepOutput(chunked_backward(self.encoder, windows.items, loss_of, size), terms, descended=True)


class _LastState(nn.Module):
    """The encoder as a module whose call gives the last state of each row."""

    def __init__(self, encoder: SASRecEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """As :meth:`SASRecEncoder.last`."""
        return self.encoder.last(items, lengths)
