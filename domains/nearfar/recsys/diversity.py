r"""The best candidates of every list, re-ranked so that the items of a list differ.

.. math:: i_t = \arg\max_{i \notin S} \; (1 - \alpha) \, r_i - \alpha \max_{j \in S} \cos(e_i, e_j), \qquad
    r_i = \frac{s_i - \min s}{\max s - \min s}

over the candidates of one list with scores s and trained item vectors e; see :mod:`nearfar.recsys.mmr`. Differs from
contrastive search (Su et al., NeurIPS 2022, eq. 5), where r is a softmax: over hundreds of items probabilities are far
smaller than cosines, so that a small alpha already forgets the scores, the sooner the more candidates there are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.recsys.mmr import mmr_rerank
from nearfar.recsys.retrieval import Ranked

NUMBERS = 2**22  # in the vectors of candidates that are looked at together


def default_pool(k: int) -> int:
    """Candidates that a list of ``k`` is chosen from.

    Example:
        >>> default_pool(5), default_pool(20)
        (100, 200)
    """
    return max(10 * k, 100)


def check_diversity(diversity: object) -> None:
    """Refuse what is no weight between nothing and all.

    Args:
        diversity: As of :meth:`nearfar.recsys.inference.Inference.recommend`.

    Raises:
        DataError: If it is no number from 0 to 1.
    """
    number = isinstance(diversity, (int, float, np.integer, np.floating)) and not isinstance(diversity, bool)
    if not number or not 0 <= diversity <= 1:  # type: ignore[operator]
        raise DataError(f"diversity: a number in [0, 1] expected, got {diversity!r}")


def relative_scores(scores: Tensor) -> Tensor:
    """Scores of every row as shares of its range: 1 for the best, 0 for the worst; all 0 if they are equal.

    Args:
        scores: Shape ``(B, M)``; minus infinity for one that may not come, and stays.

    Example:
        >>> relative_scores(torch.tensor([[7.0, 4.0, 3.0, -torch.inf]])).tolist()
        [[1.0, 0.25, 0.0, -inf]]
    """
    hidden = torch.isneginf(scores)
    low = scores.masked_fill(hidden, torch.inf).amin(1, keepdim=True)
    reach = scores.amax(1, keepdim=True) - low
    share = (scores - low) / reach.where(reach > 0, 1)
    return share.masked_fill(hidden, -torch.inf)


@torch.no_grad()
def diversify(ranked: Ranked, vectors: Tensor, k: int, alpha: float) -> Ranked:
    """Lists of ``k`` out of longer ones, by maximal marginal relevance.

    Memory is that of some millions of numbers, however many lists there are. Each item of a list costs one look at the
    vectors of its candidates.

    Args:
        ranked: Candidates of every list, best first, at least ``k``.
        vectors: Of all items, shape ``(num_items, d)``; row ``i - 1`` for item ``i``.
        k: Items per list.
        alpha: Weight of being different, in [0, 1].

    Returns:
        In the order of choice, each item with the score it had.

    Raises:
        DivergedError: If a score is infinite.

    Example:
        >>> items, scores = np.array([[1, 2, 3]]), np.array([[9, 8.9, 5]], dtype=np.float32)
        >>> vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])  # items 1 and 2 are much the same
        >>> diversify(Ranked(items, scores, np.array([3])), vectors, 2, 0.6).items.tolist()
        [[1, 3]]
    """
    count, pool = ranked.items.shape
    places = np.empty((count, k), dtype=np.int64)
    rows = max(1, NUMBERS // max(1, pool * vectors.shape[1]))
    for begin in range(0, count, rows):
        part = slice(begin, begin + rows)
        scores = torch.from_numpy(ranked.scores[part]).to(vectors.device)
        chosen = vectors[torch.from_numpy(np.maximum(ranked.items[part] - 1, 0)).to(vectors.device)].float()
        places[part] = mmr_rerank(relative_scores(scores), chosen, k, alpha)[1].cpu().numpy()
    best = np.take_along_axis(ranked.scores, places, 1)
    return Ranked(np.take_along_axis(ranked.items, places, 1), best, (best > -np.inf).sum(1))
