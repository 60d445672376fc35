"""Balanced k-means as a scikit-learn clusterer. Importing this module imports scikit-learn."""

# ruff: noqa: N803 - X is scikit-learn's name

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.cluster.kmeans import Method, balanced_kmeans
from nearfar.cluster.points import Metric
from nearfar.errors import ConfigError
from nearfar.neighbors import nearest
from nearfar.optional import require
from nearfar.runtime import generator

_sklearn: Any = require("sklearn.base", "the balanced clusterer")
_checks: Any = require("sklearn.utils.validation", "the balanced clusterer")
_random: Any = require("sklearn.utils", "the balanced clusterer")


class BalancedKMeans(_sklearn.ClusterMixin, _sklearn.BaseEstimator):  # type: ignore[misc]  # untyped
    """K-means whose clusters have the same size, give or take one point.

    The clustering of SBCL (Hou et al., ICCV 2023), exact, independent of the number of threads, and for a million
    points as well; see :func:`nearfar.cluster.balanced_kmeans`.

    Args:
        n_clusters: m, from 1 to n; ``None`` if ``max_size`` is given.
        max_size: Points that a cluster may have: there are ceil(n / max_size) clusters then.
        metric: ``cosine`` or ``euclidean``.
        method: ``auto``, ``greedy``, ``optimal``, ``hybrid`` or ``bisection``.
        max_iter: Assignments at most.
        random_state: Seed, generator of NumPy, or ``None`` for another result every time.
        warm_start: Whether ``fit`` starts from the centres of the fit before, if as many are wanted again.

    Attributes:
        labels_: Cluster of every row of ``fit``, int64, shape ``(n,)``.
        cluster_centers_: Shape ``(m, d)``; of length 1 for cosine.
        sizes_: int64, shape ``(m,)``.
        objective_: Mean cosine to the own centre, or minus the mean squared distance to it.
        n_iter_: Assignments computed.

    Example:
        >>> X = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.1], [0.0, 1.0]])
        >>> found = BalancedKMeans(2, random_state=0).fit(X)
        >>> found.sizes_.tolist(), bool(found.predict([[0.0, 2.0]])[0] == found.labels_[3])
        ([2, 2], True)
    """

    def __init__(
        self,
        n_clusters: int | None = 8,
        *,
        max_size: int | None = None,
        metric: Metric = "cosine",
        method: Method = "auto",
        max_iter: int = 50,
        random_state: Any = None,
        warm_start: bool = False,
    ) -> None:
        self.n_clusters, self.max_size, self.metric, self.method = n_clusters, max_size, metric, method
        self.max_iter, self.random_state, self.warm_start = max_iter, random_state, warm_start

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn passes it
        """Find the clusters.

        Args:
            X: Points, finite, shape ``(n, d)``; an array, a tensor on any device or a frame.
            y: Ignored.

        Raises:
            ConfigError: If a setting is out of bounds.
            ValueError: If points are not finite, as of scikit-learn.
        """
        before = getattr(self, "cluster_centers_", None) if self.warm_start else None
        x = self._checked(X, reset=True)
        clusters = self._clusters(len(x))
        if before is not None and before.shape != (clusters, x.shape[1]):
            before = None
        seed = int(_random.check_random_state(self.random_state).randint(2**31 - 1))
        found = balanced_kmeans(
            x,
            clusters,
            method=self.method,
            metric=self.metric,
            max_iter=self.max_iter,
            generator=generator(seed, "balanced k-means"),
            init=before,
        )
        self.labels_, self.sizes_ = found.labels.numpy(), found.sizes.numpy()
        self.cluster_centers_ = found.centers.numpy()
        self.objective_, self.n_iter_ = found.objective, found.n_iter
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Nearest centre of every row, however many it has; int64, shape ``(N,)``.

        Args:
            X: Points, shape ``(N, d)``.
        """
        _checks.check_is_fitted(self, "cluster_centers_")
        x = torch.from_numpy(self._checked(X, reset=False))
        centers = torch.from_numpy(self.cluster_centers_).to(x.dtype)
        _, center = nearest(x, 1, centers, metric=self.metric)
        found: NDArray[np.int64] = center[:, 0].numpy()
        return found

    def _checked(self, given: Any, *, reset: bool) -> NDArray[Any]:
        if isinstance(given, Tensor):
            given = given.detach().cpu().numpy()
        x = _checks.validate_data(self, given, reset=reset, dtype=(np.float64, np.float32), order="C")
        found: NDArray[Any] = np.require(x, requirements=["C", "W"])  # torch warns of memory it may not write
        return found

    def _clusters(self, n: int) -> int:
        if (self.n_clusters is None) == (self.max_size is None):
            raise ConfigError(
                f"n_clusters, max_size: exactly one expected, got {self.n_clusters!r} and {self.max_size!r}; "
                "set the other to None"
            )
        if self.max_size is None:
            given = self.n_clusters
            return int(given) if isinstance(given, np.integer) else given  # type: ignore[return-value]
        if (
            isinstance(self.max_size, bool)
            or not isinstance(self.max_size, int | np.integer)
            or self.max_size < 1
        ):
            raise ConfigError(f"max_size: an integer of at least 1 expected, got {self.max_size!r}")
        return -(-n // int(self.max_size))
