"""Whether one recommender ranks better than another for other users of the same kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.recsys.ranking import user_values
from nearfar.resampling import SAMPLES, Resampled, bootstrap


def paired_bootstrap(
    ranks_a: NDArray[np.integer],
    ranks_b: NDArray[np.integer],
    metric: str = "ndcg_at_10",
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Resampled:
    """Difference of two recommenders on the same users, with its interval and p-value over users.

    Users are drawn with replacement, each with the ranks of both sides. Several seeds of a recommender are
    averaged per user first: the answer is about these trained models, not about other seeds.

    Args:
        ranks_a: Rank of each user's target, 0 is the best, shape ``(U,)``, or ``(S, U)`` for S seeds.
        ranks_b: Of the other recommender, same users in the same order; the number of seeds may differ.
        metric: ``hr_at_k``, ``ndcg_at_k`` or ``mrr_at_k``.
        samples: How often the users are drawn.
        seed: Decides the draws.

    Returns:
        ``a - b``: positive where ``a`` is better.

    Raises:
        DataError: If the two sides have different numbers of users, or fewer than two.
        ConfigError: If the metric is unknown.

    Example:
        >>> found = paired_bootstrap(np.array([0, 0, 0, 2]), np.array([0, 2, 2, 2]), samples=999)
        >>> found.mean  # (0 + 1/2 + 1/2 + 0) / 4
        0.25
    """
    a, b = (np.atleast_2d(ranks) for ranks in (ranks_a, ranks_b))
    if a.shape[-1] != b.shape[-1] or a.shape[-1] < 2:
        raise DataError(
            f"ranks: the same users on both sides expected, two at least; got {a.shape[-1]} and {b.shape[-1]}"
        )
    difference = user_values(a, metric).mean(0) - user_values(b, metric).mean(0)
    return bootstrap(difference[:, None], samples=samples, seed=seed)[0]
