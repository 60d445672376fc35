"""Clusters of equal size: balanced k-means and the assignments it is made of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nearfar.cluster.acceptance import greedy_assignment
from nearfar.cluster.kmeans import BalancedClusters, balanced_kmeans
from nearfar.cluster.optimal import optimal_assignment

if TYPE_CHECKING:
    from nearfar.cluster.estimator import BalancedKMeans as BalancedKMeans

# BalancedKMeans is found as well, but not listed: it is a scikit-learn class, and importing it imports that.
__all__ = ["BalancedClusters", "balanced_kmeans", "greedy_assignment", "optimal_assignment"]


def __getattr__(name: str) -> Any:
    if name == "BalancedKMeans":
        value = importlib.import_module("nearfar.cluster.estimator").BalancedKMeans
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
