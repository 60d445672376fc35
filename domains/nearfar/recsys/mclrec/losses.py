r"""The contrastive terms of MCLRec (Qin et al., SIGIR 2023) as functions of user vectors.

With :math:`L_{con}(a, b)` the NT-Xent of two views, negatives from both (scale of the official code: mean over the 2B
anchors, half of the printed sum of two directions):

.. math::
    L_{cl1} &= L_{con}(h_1, h_2) \\
    L_{cl2} &= L_{con}(z_1, z_2) + L_{con}(h_1, z_2) + L_{con}(h_2, z_1)

and R, which lowers positive similarities and raises negative ones. Its clamps are never active, so it is, with
positives p and hardest negatives m of each row, and negatives n,

.. math::
    R_{batch} = \overline{p} - \overline{n} + |\min_i p_i - \max_i m_i|, \qquad
    R_{row} = \overline{p_i + |p_i - m_i|} - \overline{n}

``batch`` is what the paper prints (over one pair of views), ``row`` what its code computes (over all three pairs of
L_cl2). The products of L_cl2 go through the core in one call; with those of L_cl1 they are as many as the 4B x 4B Gram
matrix of all views has, which is not stored. The mean of all negatives needs no product of pairs at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.objectives.denominator import NotSame, NotSelf
from nearfar.objectives.maxima import hardest_keys
from nearfar.objectives.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Form: TypeAlias = Literal["row", "batch"]
Similarity: TypeAlias = Literal["dot", "cosine"]


def data_contrast(
    h: Tensor,
    *,
    temperature: float = 1.0,
    similarity: Similarity = "dot",
    ids: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """L_cl1: contrast of the two data views.

    Args:
        h: First views, then second views, shape ``(2 B, d)``.
        temperature: Softmax temperature.
        similarity: How two vectors are compared.
        ids: Rows with equal ids are no negatives of each other, int64, shape ``(B,)``; ``None`` keeps all.
        group: Process group whose batches are one batch.
    """
    return contrast(
        h,
        positives=("paired", len(h) // 2),
        denominator=_rule(ids),
        temperature=temperature,
        similarity=similarity,
        on_empty="zero",
        group=group,
    )


def model_contrast(
    h: Tensor, z: Tensor, *, ids: Tensor | None = None, group: ProcessGroup | None = None
) -> Tensor:
    """L_cl2: contrast of model views with each other and with the data views of the other side.

    Inner products at temperature 1, as in the paper and its code.

    Args:
        h: Data views, first then second, shape ``(2 B, d)``.
        z: Model views, likewise, shape ``(2 B, d)``.
        ids: As of :func:`data_contrast`, shape ``(B,)``.
        group: Process group whose batches are one batch.
    """
    pairs = torch.stack([torch.cat(pair) for pair in _pairs(h, z)])
    options: dict[str, Any] = {
        "positives": ("paired", len(h) // 2),
        "denominator": _rule(ids),
        "temperature": 1.0,
        "similarity": "dot",
        "on_empty": "zero",
    }
    if group is None:  # three problems of one size: their mean times three is the sum of their means
        together: Tensor = 3 * contrast(pairs, **options)
        return together
    return torch.stack([contrast(pair, group=group, **options) for pair in pairs]).sum()


def regulariser(
    h: Tensor,
    z: Tensor,
    *,
    form: Form = "row",
    temperature: float = 1.0,
    ids: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> Tensor:
    """R in either form, at least 0.

    Args:
        h: Data views, first then second, shape ``(2 B, d)``.
        z: Model views, likewise, shape ``(2 B, d)``.
        form: ``"batch"``: of (z1, z2) as printed; ``"row"``: of the three pairs of L_cl2, as in the official code.
        temperature: Divides the inner products.
        ids: As of :func:`data_contrast`, shape ``(B,)``.
        group: Process group whose batches are one batch.
    """
    if group is not None:
        here = len(h) // 2
        ranks = Ranks.of(group, here, here, h.device)
        h, z = (torch.cat([ranks.gather(half[None])[0] for half in x.chunk(2)]) for x in (h, z))
        ids = None if ids is None else ranks.gather_keys(ids)
    pairs = _pairs(h, z) if form == "row" else [(z[: len(z) // 2], z[len(z) // 2 :])]
    return pair_regulariser(torch.stack([torch.cat(pair) for pair in pairs]) * temperature**-0.5, form, ids)


def pair_regulariser(views: Tensor, form: Form = "row", ids: Tensor | None = None) -> Tensor:
    """R of some pairs of views by inner products, summed over the pairs.

    Args:
        views: Per pair one view and then the other, shape ``(P, 2 B, d)``.
        form: As of :func:`regulariser`.
        ids: Rows with equal ids are no negatives, int64, shape ``(B,)``.
    """
    size = views.shape[1] // 2
    ids = (
        torch.arange(size, device=views.device) if ids is None else torch.unique(ids, return_inverse=True)[1]
    )
    ids = ids.repeat(2)
    positive = torch.linalg.vecdot(views, views.roll(size, 1))

    # Sum over all pairs of rows with different ids = square of the sum - squares of the sums of each id.
    sums = views.new_zeros(len(views), size, views.shape[-1]).index_add_(1, ids, views)
    counts = views.new_zeros(size).index_add_(0, ids, views.new_ones(2 * size))
    num_negatives = (2 * size) ** 2 - counts.square().sum()
    total = views.sum(1).square().sum(-1) - sums.square().sum((1, 2))
    negative = total / num_negatives.clamp(min=1)

    hardest = hardest_keys(views, views, NotSame(ids)).clamp(min=0)
    largest = torch.linalg.vecdot(views, views.gather(1, hardest[..., None].expand_as(views)))
    left = 2 * size - counts[ids]  # negatives of each row
    if form == "row":
        # With equally many negatives a row this is the closed form: p + |p - m| = (p - m)+ + max(p, m).
        lowered = ((positive - largest).relu() * (left > 0)).mean(1)
        raised = (torch.maximum(positive, largest) * left).sum(1) / num_negatives.clamp(min=1)
        value = (lowered + raised - negative).sum()
    else:
        gap = positive.amin(1) - largest.masked_fill(left == 0, -torch.inf).amax(1)
        value = (positive.mean(1) - negative + gap.abs()).sum()
    return torch.where(num_negatives > 0, value, 0)  # nothing to compare with, nothing to soften


def spread(h: Tensor, group: ProcessGroup | None = None) -> Tensor:
    r"""Mean over rows of :math:`\log \sum_{j \neq i} e^{h_i \cdot h_j}`: large where user vectors are long or alike.

    What L_cl2 amounts to for the encoder while user vectors are much longer than the unit vectors of the augmenters.

    Args:
        h: User vectors, shape ``(B, d)``, B > 1.
        group: Process group whose batches are one batch.
    """
    ranks = Ranks.of(group, len(h), len(h), h.device)
    everyone = ranks.gather(h[None])
    lse, _ = ranks.log_sum_exp(h[None], everyone, NotSelf(), itself=True, columns=False, backend="auto")
    return ranks.loss(lse.sum() / sum(ranks.rows))


def _pairs(h: Tensor, z: Tensor) -> list[tuple[Tensor, Tensor]]:
    (h1, h2), (z1, z2) = h.chunk(2), z.chunk(2)
    return [(z1, z2), (h1, z2), (h2, z1)]


def _rule(ids: Tensor | None) -> NotSame | None:
    return None if ids is None else NotSame(ids.repeat(2))
