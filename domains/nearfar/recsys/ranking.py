"""Full-ranking evaluation: where the one right item stands among all items, under two protocols.

``ndcg_at_10`` keeps the items a user has already seen among the candidates (the protocol of MCLRec,
DuoRec and RecBole); ``ndcg_at_10_filtered`` removes them (that of ICLRec, BSARec and RecTools). The two
differ by up to 30 %, and published tables mix them; both are always reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DivergedError
from nearfar.recsys.split import LeaveOneOut, Split

CUTOFFS = (5, 10, 20)
FILTERED = "_filtered"
METRICS = tuple(
    f"{name}_at_{k}{protocol}"
    for protocol in ("", FILTERED)
    for k in CUTOFFS
    for name in ("hr", "ndcg", "mrr")
)

# Scores of all items for some histories: list of item index arrays -> (N, num_items).
ScoreFunction = Callable[[list[NDArray[np.int64]]], Tensor]


def rank_of_target(scores: Tensor, targets: Tensor) -> Tensor:
    """Items ranked before the target, shape ``(N,)`` int64; 0 is the best.

    Ties count against the target: a model that scores everything the same is last, not first.

    Args:
        scores: One score per item, shape ``(N, num_items)``.
        targets: Column of the right item, int64, shape ``(N,)``.

    Raises:
        DivergedError: If a score is NaN.

    Example:
        >>> rank_of_target(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([2])).item()
        1
        >>> rank_of_target(torch.zeros(1, 3), torch.tensor([2])).item()
        2
    """
    if torch.isnan(scores).any():
        raise DivergedError("the model scores items with NaN; it cannot be evaluated")
    target_score = scores.gather(1, targets[:, None])
    return (scores >= target_score).sum(1) - 1


def hide_seen(scores: Tensor, histories: list[NDArray[np.int64]]) -> Tensor:
    """A copy of ``scores`` with -inf for every item of the row's history.

    Args:
        scores: One score per item, shape ``(N, num_items)``; column ``i - 1`` belongs to item ``i``.
        histories: Item indices of each row.
    """
    row = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    seen = torch.from_numpy(np.concatenate(histories) - 1).to(scores.device)
    hidden = scores.clone()
    hidden[torch.from_numpy(row).to(scores.device), seen] = -torch.inf
    return hidden


def ranking_metrics(ranks: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """HR, NDCG and MRR of single targets, averaged over users.

    Args:
        ranks: Rank of each user's target, 0 is the best.
        cutoffs: List lengths.

    Returns:
        ``hr_at_k``, ``ndcg_at_k`` and ``mrr_at_k`` for every cutoff; HR equals recall here.

    Example:
        >>> ranking_metrics(np.array([0, 2, 99]), [10])["ndcg_at_10"]
        0.5
    """
    metrics = {}
    for k in cutoffs:
        hit = ranks < k
        metrics[f"hr_at_{k}"] = float(hit.mean())
        metrics[f"ndcg_at_{k}"] = float((hit / np.log2(ranks + 2.0)).mean())
        metrics[f"mrr_at_{k}"] = float((hit / (ranks + 1.0)).mean())
    return metrics


def target_ranks(
    score: ScoreFunction, split: LeaveOneOut, part: Split, *, batch_size: int = 256
) -> dict[str, NDArray[np.int64]]:
    """Rank of every evaluated user's target under both protocols.

    Args:
        score: Scores all items after some histories; column ``i - 1`` belongs to item ``i``.
        split: Histories and targets.
        part: ``"val"`` or ``"test"``.
        batch_size: Users scored at a time; memory is ``batch_size * num_items``.

    Returns:
        ``{"": ranks, "_filtered": ranks}``, int64, shape ``(len(split.users),)`` each.
    """
    users, targets = split.users, split.targets(part) - 1
    kept, filtered = np.empty(len(users), np.int64), np.empty(len(users), np.int64)
    # Histories of similar length together: less padding.
    order = np.argsort(split.train_ends[users] - split.data.offsets[users], kind="stable")
    for begin in range(0, len(users), batch_size):
        rows = order[begin : begin + batch_size]
        histories = [split.history(int(user), part) for user in users[rows]]
        scores = score(histories)
        goal = torch.from_numpy(targets[rows]).to(scores.device)
        kept[rows] = rank_of_target(scores, goal).cpu().numpy()
        target_score = scores.gather(1, goal[:, None])
        scores = hide_seen(scores, histories).scatter_(1, goal[:, None], target_score)
        filtered[rows] = rank_of_target(scores, goal).cpu().numpy()
    return {"": kept, FILTERED: filtered}


def evaluate(
    score: ScoreFunction, split: LeaveOneOut, part: Split, *, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Every metric at every cutoff under both protocols; arguments as :func:`target_ranks`."""
    return {
        f"{name}{protocol}": value
        for protocol, ranks in target_ranks(score, split, part).items()
        for name, value in ranking_metrics(ranks, cutoffs).items()
    }
