r"""Lists whose items differ: greedy maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

.. math:: i_t = \arg\max_{i \notin S} \; (1 - \alpha) \, s_i - \alpha \max_{j \in S} \cos(e_i, e_j)

with S the items chosen so far. Contrastive search (Su et al., NeurIPS 2022, eq. 5) is the same step on tokens. Scores
should be of the size of cosines, such as probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_features
from nearfar.errors import ConfigError, DivergedError


@torch.no_grad()
def mmr_rerank(scores: Tensor, item_emb: Tensor, n: int, alpha: float = 0.5) -> tuple[Tensor, Tensor]:
    """The ``n`` items of a list, one after the other, relevant and unlike those before.

    Memory is O(B M) and a round costs one product with the item chosen last: rerank the best few hundred candidates
    of a large catalogue, not all of it.

    Args:
        scores: Relevance of every candidate, shape ``(B, M)``; minus infinity for one that may not come.
        item_emb: Their embeddings, shape ``(M, d)``, or ``(B, M, d)`` where every row has its own candidates.
        n: Items wanted, from 1 to M.
        alpha: Weight of being different, in [0, 1]. 0 gives the n best; the first is always the best.

    Returns:
        Scores as given and places, int64, both ``(B, n)``, in the order of choice. Of equal values the candidate that
        comes first wins. Where a row has fewer candidates, the rest has score -inf, and its places mean nothing.

    Raises:
        ConfigError: If ``n`` or ``alpha`` is out of range.
        DivergedError: If a score is NaN or plus infinity.
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> scores = torch.tensor([[0.9, 0.8, 0.5]])
        >>> embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])  # the first two are much the same
        >>> mmr_rerank(scores, embeddings, 2)[1].tolist()
        [[0, 2]]
    """
    _check(scores, item_emb, n, alpha)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    unit = torch.nn.functional.normalize(item_emb.to(dtype), dim=-1)
    hidden = torch.isneginf(scores)
    relevance = ((1 - alpha) * scores.to(dtype)).masked_fill(hidden, -torch.inf)
    worst = torch.full_like(relevance, -torch.inf)  # cosine to the nearest item chosen
    taken, chosen = torch.zeros_like(hidden), []
    rows = torch.arange(len(scores), device=scores.device)
    value = scores.to(dtype)
    for _ in range(n):
        place = _first_best(value.masked_fill(taken, -torch.inf), taken)
        chosen.append(place)
        taken[rows, place] = True
        last = unit[place] if unit.dim() == 2 else unit[rows, place]
        likeness = last @ unit.mT if unit.dim() == 2 else (unit @ last[:, :, None])[:, :, 0]
        worst = torch.maximum(worst, likeness)
        value = relevance - alpha * worst
    places = torch.stack(chosen, 1)
    return scores.gather(1, places), places


def _first_best(value: Tensor, taken: Tensor) -> Tensor:
    """Place of the largest value, the first of equal ones, among those not taken; ``argmax`` promises no order."""
    place = torch.arange(value.shape[1], device=value.device)
    best = (value == value.amax(1, keepdim=True)) & ~taken
    return torch.where(best, place, value.shape[1]).amin(1)


def _check(scores: Tensor, item_emb: Tensor, n: int, alpha: float) -> None:
    if scores.dim() != 2 or not scores.is_floating_point() or not scores.numel():
        got = f"{scores.dtype} of shape {tuple(scores.shape)}"
        raise ValueError(f"scores: floating point (B, M) with M at least 1 expected, got {got}")
    check_features("item_emb", item_emb, shape="(M, d) or (B, M, d)")
    if item_emb.shape[:-1] not in (scores.shape, scores.shape[1:]):
        num_rows, num_items = scores.shape
        raise ValueError(
            f"item_emb: ({num_items}, d) or ({num_rows}, {num_items}, d) expected, got shape {tuple(item_emb.shape)}"
        )
    if not 1 <= n <= scores.shape[1]:
        raise ConfigError(f"n: 1 to the {scores.shape[1]} candidates expected, got {n}")
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: a number in [0, 1] expected, got {alpha}")
    if not (scores.amax(1) < torch.inf).all():
        raise DivergedError("scores: the model scores items with NaN or infinity; they cannot be ranked")
