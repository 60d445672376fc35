"""Assignment under capacities with the largest total score, by scipy's solver of linear assignment problems."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.cluster.acceptance import balanced_capacities, checked_capacities, checked_scores
from nearfar.errors import ConfigError
from nearfar.optional import require

SCORES = 2 * 10**6
PLACES = 5 * 10**7  # points times places


@torch.no_grad()
def optimal_assignment(scores: Tensor, capacities: Tensor | None = None) -> Tensor:
    """Points to centres with the largest total score, each centre up to its capacity.

    By default sizes are floor(n / m) or one more, whichever centres deserve it. Time grows with n^3.

    Args:
        scores: Any finite numbers, larger is better, shape ``(n, m)``.
        capacities: Points that each centre may take, shape ``(m,)``; together at least n.

    Returns:
        Centre of every point, int64, shape ``(n,)``.

    Raises:
        DataError: If scores are no matrix of finite numbers, or the points do not fit.
        ConfigError: If the problem is too large for an exact solution.

    Example:
        >>> optimal_assignment(torch.tensor([[0.9, 0.8], [0.7, 0.1]])).tolist()
        [1, 0]
    """
    scores = checked_scores(scores)
    found = checked_capacities(scores, capacities)
    n, m = scores.shape
    places = n + m if found is None else int(found.clamp(max=n).sum())
    if n * m > SCORES or n * places > PLACES:
        raise ConfigError(
            f"method: 'optimal' takes at most {SCORES:,} scores and {PLACES:,} pairs of a point and a place, got "
            f"{n:,} points x {m:,} centres and {n * places:,} pairs; use 'greedy'"
        )
    if not n:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    gain = scores.double().cpu().numpy()
    labels = _balanced(gain) if found is None else _solved(gain, found.clamp(max=n).cpu().numpy())
    return torch.from_numpy(labels).to(scores.device)


def _solved(gain: NDArray[np.float64], capacities: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every place of a centre is a column."""
    solver = require("scipy.optimize", "optimal assignment")
    center = np.repeat(np.arange(len(capacities)), capacities)
    _, column = solver.linear_sum_assignment(gain[:, center], maximize=True)
    labels: NDArray[np.int64] = center[column]
    return labels


def _balanced(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places that have to be taken come first, then one a centre that some dummy rows take if no point does."""
    n, m = gain.shape
    least, rest = balanced_capacities(n, m)
    if not rest:
        return _solved(gain, least.numpy())
    solver = require("scipy.optimize", "optimal assignment")
    center = np.concatenate([np.repeat(np.arange(m), n // m), np.arange(m)])
    # Nothing that a point could gain is worth a dummy on a place that has to be taken.
    dummy = np.zeros((m - rest, len(center)))
    dummy[:, : n - rest] = -(np.ptp(gain) + 1) * (n + 1)
    _, column = solver.linear_sum_assignment(np.concatenate([gain[:, center], dummy]), maximize=True)
    labels: NDArray[np.int64] = center[column[:n]]
    return labels
