"""Clusters of equal size: balanced k-means and the assignments it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.cluster.acceptance import greedy_assignment
from nearfar.cluster.kmeans import BalancedClusters, balanced_kmeans
from nearfar.cluster.optimal import optimal_assignment
from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.cluster.estimator import BalancedKMeans as BalancedKMeans

# BalancedKMeans is found as well, but not listed: it is a scikit-learn class, and importing it imports that.
__all__ = ["BalancedClusters", "balanced_kmeans", "greedy_assignment", "optimal_assignment"]

__getattr__ = lazy_names(__name__, {"BalancedKMeans": "nearfar.cluster.estimator"})
