"""Local outlier factor (Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000).

How much sparser the surroundings of a row are than those of its neighbours: about 1 inside a cluster, well above 1
for a row apart from it. As a filter for wrong labels within a class it is weak, since wrong items form clusters of
their own: above the usual threshold of 1.5 are few rows, right or wrong. ``nearfar.labels.label_agreement`` finds more.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.neighbors.exact import nearest
from nearfar.neighbors.rows import feature_rows

# Added to mean distances as scikit-learn does, so that k copies of one row have a density.
GUARD = 1e-10


@torch.no_grad()
def local_outlier_factor(x: Tensor | NDArray[Any], k: int = 20) -> Tensor:
    """Local outlier factor of every row, from Euclidean distances; the larger, the more of an outlier.

    With N(a) the k nearest others of a, and kdist(b) the distance from b to the k-th of its own:
    ``reach(a, b) = max(kdist(b), |a - b|)``, ``lrd(a) = 1 / (mean over N(a) of reach + 1e-10)``, and
    ``LOF(a) = mean over N(a) of lrd(b) / lrd(a)``; what scikit-learn calls ``-negative_outlier_factor_``.

    Args:
        x: Shape ``(n, d)``.
        k: Neighbours of a row; ``n - 1`` if there are no more.

    Returns:
        Shape ``(n,)``, in the precision of ``x``; ones if there are fewer than two rows. Of equally near rows at
        the k-th place, those that :func:`nearest` found count.

    Raises:
        ConfigError: If ``k`` is below 1.
        DataError: If features are not finite.

    Example:
        >>> local_outlier_factor(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 2).argmax().item()
        3
    """
    rows = feature_rows("x", x)
    if k < 1:
        raise ConfigError(f"k: at least 1 neighbour expected, got {k}")
    if len(rows) < 2:
        return rows.new_ones(len(rows))
    # In float32 rounding decides who is k-th of rows that are equally near but for the last digits.
    distance, index = nearest(rows.double(), min(k, len(rows) - 1))
    reach = torch.maximum(distance, distance[:, -1][index])
    density = 1 / (reach.mean(1) + GUARD)
    return (density[index].mean(1) / density).to(rows.dtype)
