"""Items whose label is doubtful, left out before means and covariances are taken.

Two rules. ``"lof"`` is the paper's: items in thin places of their own class. It removes little label noise, since the
wrong items of a class lie together where their true class is, as dense as the right ones. ``"knn"`` asks the
neighbours among all items instead, corrected for the size of the classes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.labels.agreement import keep_most, label_agreement
from nearfar.labels.codes import Values, class_codes
from nearfar.neighbors import feature_rows, local_outlier_factor

OUTLIERS = ("lof", "knn", "none")
# Fewer items than this say nothing about density; so many are kept of every class that has them.
FEWEST_FOR_LOF = 5
LEAST_KEPT = 2
LOF_NEIGHBORS = 20


def inliers(
    features: Tensor | NDArray[Any],
    codes: Values,
    kind: str = "lof",
    *,
    keep: float = 0.6,
    threshold: float = 1.5,
    neighbors: int | None = None,
    num_classes: int | None = None,
) -> Tensor:
    """Which items are kept: of every class two at least, or all where it has fewer.

    Args:
        features: Shape ``(N, m)``.
        codes: Given classes 0, ..., K - 1, shape ``(N,)``.
        kind: ``"lof"`` (local outlier factor within each class; classes of fewer than 5 items are kept whole),
            ``"knn"`` (the share ``keep`` of each class whose label the neighbours share most) or ``"none"``.
        keep: Share of every class that ``"knn"`` keeps, in (0, 1].
        threshold: Largest factor that ``"lof"`` keeps; 1.5 is scikit-learn's.
        neighbors: Neighbours to look at; 20 for ``"lof"`` without it, for ``"knn"`` the default of
            :func:`nearfar.labels.agreement.label_agreement`. All others where they are fewer.
        num_classes: K, only to check the codes.

    Returns:
        bool, shape ``(N,)``, on the device of ``features``.

    Raises:
        ConfigError: If a setting is out of bounds.
        DataError: If features are not finite, or codes are none, one a row.

    Example:
        >>> x = torch.cat([torch.linspace(0, 1, 30), torch.tensor([9.0])]).unsqueeze(1)
        >>> inliers(x, [0] * 31).logical_not().nonzero().tolist()
        [[30]]
    """
    check_filter(kind, keep=keep, threshold=threshold, neighbors=neighbors)
    rows, given = feature_rows("features", features), class_codes("codes", codes, num_classes)
    if len(given) != len(rows):
        raise DataError(f"codes: one for each of the {len(rows)} rows expected, got {len(given)}")
    if kind == "knn":
        return keep_most(label_agreement(rows, given, k=neighbors), given, keep, least=LEAST_KEPT)
    kept = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    if kind == "none":
        return kept
    order = torch.from_numpy(given).sort(stable=True)
    sizes = order.values.unique_consecutive(return_counts=True)[1]
    for where in order.indices.split(sizes.tolist()):
        if len(where) < FEWEST_FOR_LOF:
            continue
        where = where.to(rows.device)
        factor = local_outlier_factor(rows[where], LOF_NEIGHBORS if neighbors is None else neighbors)
        inside = factor <= threshold
        inside[factor.argsort(stable=True)[:LEAST_KEPT]] = True
        kept[where] = inside
    return kept


def check_filter(kind: str, *, keep: float, threshold: float, neighbors: int | None) -> None:
    """Raise unless :func:`inliers` can work with these settings.

    Args:
        kind: See there, as all.
        keep: In (0, 1].
        threshold: Finite and positive.
        neighbors: At least 1, or ``None``.

    Raises:
        ConfigError: If one is out of bounds.
    """
    if kind not in OUTLIERS:
        raise ConfigError(f"outlier: {' or '.join(map(repr, OUTLIERS))} expected, got {kind!r}")
    if not 0 < keep <= 1:
        raise ConfigError(f"keep: a share in (0, 1] expected, got {keep}")
    if not 0 < threshold < math.inf:
        raise ConfigError(f"threshold: a finite positive number expected, got {threshold}")
    if neighbors is not None and neighbors < 1:
        raise ConfigError(f"neighbors: at least 1 expected, got {neighbors}")
