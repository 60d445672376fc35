"""Full-ranking evaluation: where the one right item stands among all items, under two protocols.

``ndcg_at_10`` keeps the items a user has already seen among the candidates (the protocol of MCLRec,
DuoRec and RecBole); ``ndcg_at_10_filtered`` removes them (that of ICLRec, BSARec and RecTools). The two
differ by up to 30 %, and published tables mix them; both are always reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError, DivergedError
from nearfar.recsys.split import LeaveOneOut, Split

NAMES = ("hr", "ndcg", "mrr")
CUTOFFS = (5, 10, 20)
FILTERED = "_filtered"
METRICS = tuple(f"{name}_at_{k}{protocol}" for protocol in ("", FILTERED) for k in CUTOFFS for name in NAMES)

# Scores of all items for some histories: list of item index arrays -> (N, num_items).
ScoreFunction = Callable[[list[NDArray[np.int64]]], Tensor]


def rank_of_target(scores: Tensor, targets: Tensor) -> Tensor:
    """Items ranked before the target, shape ``(N,)`` int64; 0 is the best.

    Ties count against the target: a model that scores everything the same is last, not first.

    Args:
        scores: One score per item, shape ``(N, num_items)``.
        targets: Column of the right item, int64, shape ``(N,)``.

    Raises:
        DataError: If scores and targets do not fit each other.
        DivergedError: If a score is NaN.

    Example:
        >>> rank_of_target(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([2])).item()
        1
        >>> rank_of_target(torch.zeros(1, 3), torch.tensor([2])).item()
        2
    """
    _check_targets(scores, targets)
    # The largest of a row is NaN as soon as one of it is; a mask of the whole matrix takes ten times as long.
    if torch.isnan(scores.amax(1)).any():
        raise DivergedError("the model scores items with NaN; it cannot be evaluated")
    target_score = scores.gather(1, targets[:, None])
    if scores.shape[1] >= 2**24:  # where float32 stops counting
        return (scores >= target_score).sum(1) - 1
    # A sum of float32 is four times as fast as one of truth values.
    ahead = torch.ge(scores, target_score, out=torch.empty_like(scores, dtype=torch.float32))
    return ahead.sum(1).long() - 1


def _check_targets(scores: Tensor, targets: Tensor) -> None:
    if scores.dim() != 2 or targets.shape != scores.shape[:1] or targets.dtype != torch.int64:
        raise DataError(
            f"scores, targets: shapes (N, num_items) and (N,) of int64 expected, got {tuple(scores.shape)} and "
            f"{tuple(targets.shape)} of {targets.dtype}; give one target a row"
        )
    outside = (targets < 0) | (targets >= scores.shape[1])
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"targets: column {int(targets[row])} in row {row}, 0 to {scores.shape[1] - 1} expected; the column of "
            "an item is its index less one"
        )


def seen_ahead(scores: Tensor, targets: Tensor, histories: Sequence[NDArray[np.int64]]) -> Tensor:
    """How many of the items counted by :func:`rank_of_target` the row's history holds, shape ``(N,)`` int64.

    The difference of the two is the rank among unseen items. The target is never hidden, though the history
    may hold it as well; an item that the history repeats is one item.

    Args:
        scores: One score per item, shape ``(N, num_items)``; column ``i - 1`` belongs to item ``i``.
        targets: Column of the right item, int64, shape ``(N,)``.
        histories: Item indices of each row.

    Example:
        >>> scores = torch.tensor([[0.9, 0.8, 0.5]])
        >>> seen_ahead(scores, torch.tensor([2]), [np.array([1, 3, 1])]).item()
        1
    """
    num_rows, num_items = scores.shape
    lengths = [len(history) for history in histories]
    row = np.repeat(np.arange(num_rows), lengths)
    column = np.concatenate(histories) - 1
    kept = column != targets.cpu().numpy()[row]
    pairs = torch.from_numpy(np.unique(row[kept] * num_items + column[kept])).to(scores.device)
    rows = pairs // num_items
    target_score = scores.gather(1, targets[:, None])[:, 0]
    ahead = scores[rows, pairs % num_items] >= target_score[rows]
    return torch.zeros_like(targets).index_add_(0, rows, ahead.to(targets.dtype))


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


def user_values(ranks: NDArray[np.integer], metric: str) -> NDArray[np.float64]:
    """What a metric is the mean of: one value per user.

    Args:
        ranks: Rank of each user's target, 0 is the best; any shape.
        metric: ``hr_at_k``, ``ndcg_at_k`` or ``mrr_at_k``, any ``k`` from 1; the protocol is that of the ranks.

    Returns:
        Values between 0 and 1, shaped as ``ranks``.

    Raises:
        ConfigError: If the metric is none of these.
        DataError: If a rank is not a whole number from 0.

    Example:
        >>> user_values(np.array([0, 2, 99]), "ndcg_at_10").tolist()
        [1.0, 0.5, 0.0]
    """
    name, _, cutoff = metric.partition("_at_")
    if name not in NAMES or not cutoff.isdecimal() or int(cutoff) < 1:
        raise ConfigError(f"metric: {', '.join(f'{name}_at_k' for name in NAMES)} expected, got '{metric}'")
    if ranks.dtype.kind not in "iu" or (ranks.size and ranks.min() < 0):
        wrong = ranks.min() if ranks.dtype.kind in "iu" else ranks.dtype
        raise DataError(
            f"ranks: whole numbers from 0, the best, expected, got {wrong}; rank_of_target gives such"
        )
    hit = ranks < int(cutoff)
    if name == "hr":
        return hit.astype(np.float64)
    return hit / (np.log2(ranks + 2.0) if name == "ndcg" else ranks + 1.0)


def ranking_metrics(ranks: NDArray[np.integer], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """HR, NDCG and MRR of single targets, averaged over users.

    Args:
        ranks: Rank of each user's target, 0 is the best.
        cutoffs: List lengths.

    Returns:
        ``hr_at_k``, ``ndcg_at_k`` and ``mrr_at_k`` for every cutoff; HR equals recall here.

    Raises:
        ConfigError: If a cutoff is no whole number from 1.
        DataError: If there are no ranks, or one is not a whole number from 0.

    Example:
        >>> ranking_metrics(np.array([0, 2, 99]), [10])["ndcg_at_10"]
        0.5
    """
    if ranks.size == 0:
        raise DataError("ranks: none, so there is no mean; evaluate one user at least")
    names = [f"{name}_at_{k}" for k in cutoffs for name in NAMES]
    return {name: float(user_values(ranks, name).mean()) for name in names}


def protocol_metrics(
    ranks: Mapping[str, NDArray[np.integer]], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Metrics under both protocols.

    Args:
        ranks: From :func:`target_ranks`.
        cutoffs: List lengths.
    """
    return {
        f"{name}{protocol}": value
        for protocol, found in ranks.items()
        for name, value in ranking_metrics(found, cutoffs).items()
    }


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
        rank = rank_of_target(scores, goal)
        kept[rows] = rank.cpu().numpy()
        filtered[rows] = (rank - seen_ahead(scores, goal, histories)).cpu().numpy()
    return {"": kept, FILTERED: filtered}


def evaluate(
    score: ScoreFunction, split: LeaveOneOut, part: Split, *, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Every metric at every cutoff under both protocols; arguments as :func:`target_ranks`."""
    return protocol_metrics(target_ranks(score, split, part), cutoffs)
