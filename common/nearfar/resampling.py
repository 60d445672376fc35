"""The bootstrap: how far a mean over cases may be off, from the cases alone.

Efron, "Bootstrap methods: another look at the jackknife" (Annals of Statistics, 1979); p-values with one added to both
counts after Davison and Hinkley, "Bootstrap Methods and their Application" (1997), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearfar.runtime import numpy_generator

CONFIDENCE = 0.95
SAMPLES = 10_000
_DRAWS = 1 << 19  # at a time: some 12 MiB


@dataclass(frozen=True)
class Resampled:
    """A mean over cases and what resampling the cases says about it.

    Attributes:
        n: Cases.
        mean: Their mean.
        low: Lower end of the 95 % percentile interval.
        high: Upper end.
        p_value: Two-sided, that the mean is zero: twice the share of resampled means on the side of zero that has
            fewer of them. No smaller than ``2 / (samples + 1)``.
    """

    n: int
    mean: float
    low: float
    high: float
    p_value: float


def resampled_means(
    values: NDArray[np.floating], *, samples: int = SAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Means over cases drawn with replacement, as many as there are.

    All columns see the same draws, so any difference or ratio of columns may be taken afterwards.

    Args:
        values: One row per case, shape ``(N, M)``.
        samples: How often to draw.
        seed: Decides the draws; the same on every platform.

    Returns:
        Means, float64, shape ``(samples, M)``. Memory beside it does not grow with ``samples``.

    Raises:
        ValueError: If there are fewer than two cases, a value is not finite, or ``samples`` is less than 1.

    Example:
        >>> resampled_means(np.array([[1.0, 2.0], [1.0, 2.0]]), samples=2).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"values: shape (N, M) with N of at least 2 expected, got {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(
            f"values: {np.count_nonzero(~np.isfinite(table))} are not finite; leave such cases out"
        )
    if samples < 1:
        raise ValueError(f"samples: at least 1 expected, got {samples}")
    num_cases = len(table)
    rng = numpy_generator(seed, "bootstrap")
    means = np.empty((samples, table.shape[1]))
    at_once = max(1, _DRAWS // num_cases)
    for begin in range(0, samples, at_once):
        count = min(at_once, samples - begin)
        drawn = rng.integers(num_cases, size=(count, num_cases))
        # How often each case was drawn: one product with all columns instead of a gather for each.
        drawn += np.arange(count)[:, None] * num_cases
        times = np.bincount(drawn.ravel(), minlength=count * num_cases).reshape(count, num_cases)
        means[begin : begin + count] = times @ table / num_cases
    return means


def bootstrap(
    values: NDArray[np.floating], *, samples: int = SAMPLES, seed: int = 0
) -> tuple[Resampled, ...]:
    """Every column's mean with its interval and its p-value against zero.

    For a paired comparison the values are differences, one per case.

    Args:
        values: As for :func:`resampled_means`.
        samples: As for :func:`resampled_means`.
        seed: As for :func:`resampled_means`.

    Returns:
        One per column.

    Raises:
        ValueError: As :func:`resampled_means`.

    Example:
        >>> bootstrap(np.array([[1.0, 0.0], [1.0, 0.0]]), samples=999)[0].p_value  # 2 / (999 + 1)
        0.002
        >>> bootstrap(np.array([[1.0, 0.0], [1.0, 0.0]]), samples=999)[1].p_value
        1.0
    """
    means = resampled_means(values, samples=samples, seed=seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    fewer = np.minimum((means <= 0).sum(0), (means >= 0).sum(0))
    p_values = np.minimum(1.0, 2 * (fewer + 1) / (samples + 1))
    mean = np.asarray(values, dtype=np.float64).mean(0)
    columns = np.stack([mean, low, high, p_values], axis=1).tolist()
    return tuple(Resampled(len(values), *column) for column in columns)
