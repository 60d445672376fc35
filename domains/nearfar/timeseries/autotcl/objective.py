r"""What the two sides of AutoTCL descend, whoever holds the encoder: the suite's loop, or fastai's.

.. math:: L_{aug} = L_{PRI} + \lambda L_t, \qquad L_{con} = L_{global} + \alpha L_{local}

(Zheng et al., ICLR 2024, sections 3.3 and 3.4.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.objectives.mmd import divergence
from nearfar.objectives.ranks import Ranks
from nearfar.timeseries.autotcl.augmenter import Augmenter, LearnedView
from nearfar.timeseries.autotcl.config import ContrastConfig
from nearfar.timeseries.autotcl.hierarchical_contrast import hierarchical_contrast
from nearfar.timeseries.autotcl.local_contrast import local_contrast
from nearfar.timeseries.autotcl.relevance import price
from nearfar.timeseries.autotcl.triplet import released_triplet_loss, triplet_loss
from nearfar.timeseries.encoder.pooling import max_pool


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
    *,
    shift: int = 0,
    ranks: Ranks | None = None,
    chosen: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
    """Pick the view of a series among the views of all, and segments among segments; or every step of it.

    Args:
        states: Of this process's series and then of their views, shape ``(2B, T, D)``.
        valid: Steps that are not missing, bool, shape ``(2B, T)``.
        config: Form, temperature, weights, and what segments are of.
        generator: Source of where segments begin, the same on all processes.
        shift: Step t of a view is step t + shift of its series.
        ranks: Who has which series of the batch; ``None`` for all of them here.
        chosen: Loss of the whole batch from pooled series and views of this process, instead of picking views.

    Returns:
        The loss of the whole batch; its parts, scalars: ``nce_global`` or ``objective``, and with a local loss
        ``nce_local``, or ``nce_steps``; pooled series and views of all processes, shape ``(B, D)`` each.
    """
    ranks = Ranks.sharing(None, len(states) // 2) if ranks is None else ranks
    anchors, views = max_pool(states, valid).chunk(2)
    if chosen is not None:
        loss = chosen(anchors, views)
        terms = {"objective": loss}
    elif config.form == "hierarchical":
        loss = _of_steps(states, valid, config, shift, ranks)
        terms = {"nce_steps": loss}
    else:
        loss = contrast(
            anchors,
            views,
            temperature=config.temperature,
            symmetric=config.symmetric,
            group=ranks.group,
        )
        terms = {"nce_global": loss}
    if config.form == "pooled" and config.local > 0:
        terms["nce_local"] = _of_segments(states, config, generator, ranks)
        loss = loss + config.local * terms["nce_local"]
    return loss, terms, (ranks.gather_rows(anchors), ranks.gather_rows(views))


def _of_steps(states: Tensor, valid: Tensor, config: ContrastConfig, shift: int, ranks: Ranks) -> Tensor:
    common = states.shape[1] - shift
    (first, second), (seen, shown) = states.chunk(2), valid.chunk(2)
    first, second = (
        ranks.gather(z.flatten(1)[None])[0].unflatten(1, z.shape[1:])
        for z in (first[:, shift:], second[:, :common])
    )
    both = ranks.gather_rows((seen[:, shift:] & shown[:, :common]).to(torch.uint8)).bool()
    return hierarchical_contrast(
        first, second, both, temperature=config.temperature, among_series=config.among_series
    )


def _of_segments(states: Tensor, config: ContrastConfig, generator: torch.Generator, ranks: Ranks) -> Tensor:
    z = states.chunk(2)[1 if config.local_on == "view" else 0]
    if config.local_batch == "first":
        return ranks.loss(local_contrast(z[:1], generator) * (ranks.rank == 0))
    return ranks.loss(local_contrast(z, generator) * (len(z) / sum(ranks.rows)))
