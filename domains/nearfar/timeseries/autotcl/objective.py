r"""What the two sides of AutoTCL descend, whoever holds the encoder: the suite's loop, or fastai's.

.. math:: L_{aug} = L_{PRI} + \lambda L_t, \qquad L_{con} = L_{global} + \alpha L_{local}

(Zheng et al., ICLR 2024, sections 3.3 and 3.4.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.timeseries.autotcl.augmenter import Augmenter, LearnedView
from nearfar.timeseries.autotcl.config import ContrastConfig
from nearfar.timeseries.autotcl.local_contrast import local_contrast
from nearfar.timeseries.autotcl.mmd import divergence
from nearfar.timeseries.autotcl.relevance import price
from nearfar.timeseries.autotcl.triplet import released_triplet_loss, triplet_loss
from nearfar.timeseries.encoder.pooling import max_pool

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def augmenter_loss(
    augmenter: Augmenter,
    drawn: LearnedView,
    original: Tensor,
    view: Tensor,
    beta: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Keep little, stay close, change slowly.

    Args:
        augmenter: Made the views.
        drawn: What it made.
        original: Pooled representations of the series, shape ``(B, D)``.
        view: Those of the views, same shape.
        beta: Price of a kept step, a scalar.
        generator: Source of the triplets.

    Returns:
        The loss and its parts, scalars: ``divergence``, and with a mask ``price`` and ``triplet``.
    """
    a = augmenter.config
    loss = divergence(original, view, a.divergence)
    terms = {"divergence": loss}
    if a.mask:
        smoothness = triplet_loss if a.triplet == "paper" else released_triplet_loss
        terms["price"] = price(drawn.logits, augmenter.gate, a.entropy)
        terms["triplet"] = smoothness(drawn.pi, generator)
        loss = loss + beta.to(loss.dtype) * terms["price"] + a.smoothness * terms["triplet"]
    return loss, terms


def kept_share(augmenter: Augmenter, drawn: LearnedView) -> Tensor:
    """Mean probability of keeping a step, a scalar without gradient: what the price follows.

    Args:
        augmenter: Made the views.
        drawn: What it made.
    """
    return augmenter.gate.keep_probability(drawn.logits.detach()).mean()


def contrast_loss(
    states: Tensor,
    valid: Tensor,
    config: ContrastConfig,
    generator: torch.Generator,
    group: ProcessGroup | None = None,
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Pick the view of a series among the views of all, and segments among segments.

    Args:
        states: Of the series and then of their views, shape ``(2B, T, D)``.
        valid: Steps that are not missing, bool, shape ``(2B, T)``.
        config: Temperature, weights, and what segments are of.
        generator: Source of where segments begin.
        group: As of :func:`nearfar.objectives.contrast`.

    Returns:
        The loss; its parts, scalars: ``nce_global``, and with a local loss ``nce_local``; pooled series and views,
        shape ``(B, D)`` each.
    """
    anchors, views = max_pool(states, valid).chunk(2)
    loss = contrast(anchors, views, temperature=config.temperature, symmetric=config.symmetric, group=group)
    terms = {"nce_global": loss}
    if config.local > 0:
        z = states.chunk(2)[1 if config.local_on == "view" else 0]
        z = z if config.local_batch == "all" else z[:1]
        terms["nce_local"] = local_contrast(z, generator)
        loss = loss + config.local * terms["nce_local"]
    return loss, terms, (anchors, views)
