"""The contrastive parts of MCLRec's two losses: which terms, their weights, and whom their gradients reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor

from nearfar.recsys.mclrec.augmenters import Augmenters
from nearfar.recsys.mclrec.config import AugmenterConfig, ContrastConfig, Schedule
from nearfar.recsys.mclrec.losses import data_contrast, model_contrast, regulariser
from nearfar.training.gradient import scale_gradient, scale_value

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Terms = dict[str, Tensor]
Stage: TypeAlias = Literal["encoder", "augmenters"]

# Of schedules that move one after the other. The official code moves the encoder twice a batch.
STAGES: Mapping[Schedule, tuple[Stage, ...]] = {
    "paper": ("encoder", "augmenters"),
    "official": ("encoder", "augmenters", "encoder"),
}


@dataclass(frozen=True)
class Objective:
    """What the encoder and the augmenters descend besides the next-item loss.

    Args:
        contrast: Of the data views.
        augmenters: Of the model views.
        schedule: Who moves in which order.
    """

    contrast: ContrastConfig
    augmenters: AugmenterConfig
    schedule: Schedule

    @property
    def alternates(self) -> bool:
        """Whether a batch makes several updates."""
        return self.schedule in STAGES

    @property
    def learns_augmenters(self) -> bool:
        """Whether there are augmenters to train."""
        a = self.augmenters
        return self.contrast.form == "mclrec" and a.weight > 0 and a.kind == "learned"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Who moves on a batch, in order; "encoder" alone where both move at once."""
        stages: tuple[Stage, ...] = STAGES.get(self.schedule, ("encoder",))
        return tuple(stage for stage in stages if stage == "encoder" or self.learns_augmenters)

    @property
    def two_losses(self) -> bool:
        """Whether one step moves the encoder by L_0 and the augmenters by L_1."""
        return self.schedule == "simultaneous" and self.learns_augmenters

    def encoder_terms(
        self,
        h: Tensor,
        augmenters: Augmenters,
        ids: Tensor | None = None,
        group: ProcessGroup | None = None,
        chosen: Callable[[], Tensor] | None = None,
    ) -> Terms:
        """The terms of L_0 that have a weight, without it: of ``cl1``, ``cl2``, ``reg``.

        With schedule ``simultaneous`` one evaluation serves two losses: :meth:`weighted` gives the augmenters a
        gradient of weight 1, the encoder one of weight beta. Where updates alternate the augmenters are constants.

        Args:
            h: User vectors of first views, then of second views, shape ``(2 B, d)``.
            augmenters: Make model views of them.
            ids: Rows with equal ids are no negatives of each other, int64, shape ``(B,)``.
            group: Process group whose batches are one batch.
            chosen: Contrast of the data views instead of the paper's.
        """
        terms, beta = {}, self.augmenters.weight
        if self.contrast.weight > 0 and chosen is not None:
            terms["cl1"] = chosen()
        elif self.contrast.weight > 0:
            c = self.contrast
            terms["cl1"] = data_contrast(
                h, temperature=c.temperature, similarity=c.similarity, ids=ids, group=group
            )
        if beta > 0:
            h = scale_gradient(h, beta) if self.two_losses else h
            model_views = augmenters.as_constant if self.alternates else augmenters
            terms |= self.augmenter_terms(h, model_views, ids, group)
        return terms

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of terms of :meth:`encoder_terms`, of all or of some; a scalar."""
        a = self.augmenters
        parts = [self.contrast.weight * terms["cl1"]] if "cl1" in terms else []
        weights = {"cl2": 1.0, "reg": a.regulariser_weight}
        own = [weight * terms[name] for name, weight in weights.items() if name in terms]
        if own:
            loss = torch.stack(own).sum()
            parts.append(scale_value(loss, a.weight) if self.two_losses else a.weight * loss)
        return torch.stack(parts).sum()

    def augmenter_terms(
        self,
        h: Tensor,
        model_views: Callable[[Tensor], Tensor],
        ids: Tensor | None = None,
        group: ProcessGroup | None = None,
    ) -> Terms:
        """The terms of L_1 without weights, ``cl2`` and ``reg``; both are part of L_0 as well.

        Args:
            h: As of :meth:`encoder_terms`, shape ``(2 B, d)``; without gradient for L_1.
            model_views: The augmenters.
            ids: As of :meth:`encoder_terms`, shape ``(B,)``.
            group: As of :meth:`encoder_terms`.
        """
        z, form, temperature = model_views(h), self.augmenters.regulariser, self.contrast.temperature
        return {
            "cl2": model_contrast(h, z, ids=ids, group=group),
            "reg": regulariser(h, z, form=form, temperature=temperature, ids=ids, group=group),
        }

    @property
    def own_regulariser_weight(self) -> float:
        """Weight of R in L_1: the paper gives it what it has in L_0, its code that relative to L_cl2."""
        a = self.augmenters
        return a.regulariser_weight * (a.weight if self.schedule == "paper" else 1.0)
