"""Balanced k-means: clusters of floor(n / m) or ceil(n / m) points, the same with any number of threads.

Source of the greedy method: Hou, Zhang, Wang and Zhou, "Subclass-balancing Contrastive Learning for Long-tailed
Recognition" (ICCV 2023), algorithm 1. Differs from the official code, which never calls its own balanced clustering:
seeds are drawn by 1 - cosine instead of 1 / cosine; similarities are not divided by their sums, which can be negative
and then reverse the order; the greedy loop is a deferred acceptance with the same result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.cluster.acceptance import greedy_labels
from nearfar.cluster.bisection import pieces
from nearfar.cluster.candidates import listed_assignment
from nearfar.cluster.optimal import optimal_assignment
from nearfar.cluster.points import METRICS, Metric, Points
from nearfar.cluster.seeding import seeds
from nearfar.errors import ConfigError, DataError
from nearfar.neighbors import feature_rows

Method: TypeAlias = Literal["auto", "greedy", "optimal", "hybrid", "bisection"]
METHODS: tuple[Method, ...] = ("auto", "greedy", "optimal", "hybrid", "bisection")

SCORES = 150_000_000  # in memory at once, float32
PIECE = 2**13  # points that are clustered together in the first stage of `hybrid`
PIECE_ITERATIONS = 3
SWEEPS = 5


@dataclass(frozen=True)
class BalancedClusters:
    """A clustering.

    Attributes:
        labels: Cluster of every point, int64, shape ``(n,)``.
        centers: Means of the clusters, of length 1 for cosine, shape ``(m, d)``.
        sizes: int64, shape ``(m,)``.
        objective: Mean cosine to the own centre, or minus the mean squared distance to it.
        n_iter: Assignments of all points that were computed.
        converged: Whether an assignment came back, so that going on would change nothing.
    """

    labels: Tensor
    centers: Tensor
    sizes: Tensor
    objective: float
    n_iter: int
    converged: bool


@torch.no_grad()
def balanced_kmeans(
    x: Tensor | NDArray[Any],
    n_clusters: int,
    *,
    method: Method = "auto",
    metric: Metric = "cosine",
    max_iter: int = 50,
    generator: torch.Generator,
    init: Tensor | NDArray[Any] | None = None,
) -> BalancedClusters:
    """Clusters of equal size, give or take one point.

    The same points, generator and settings give the same clusters with any number of threads, on any processor and
    on a GPU: scores are exact (see :mod:`nearfar.cluster.points`), and equal ones are ranked by point, then centre.
    For that, entries are rounded to 2^-24 of the length of a row (cosine) or of the longest row (euclidean).
    The best of the clusterings passed through is returned.

    Args:
        x: Points, finite, shape ``(n, d)``. With cosine a row of zeros has similarity 0 to everything.
        n_clusters: m, from 1 to n.
        method: ``greedy``, the pair of highest score first; ``optimal``, the best assignment, for small problems
            (needs scipy); ``bisection``, halving only, fast and coarse; ``hybrid``, halving to pieces, greedy within
            them, then up to five greedy sweeps over all points with lists of near centres; ``auto``, greedy up to
            1.5e8 scores, otherwise hybrid.
        metric: ``cosine`` or ``euclidean``.
        max_iter: Assignments at most; of ``hybrid`` never more than three within pieces and five sweeps.
        generator: Where seeds are drawn from.
        init: Centres of an earlier clustering to start from, shape ``(m, d)``; nothing is drawn for seeds then.

    Returns:
        The clusters, on the device of ``x``.

    Raises:
        ConfigError: If a setting is unknown or out of bounds.
        DataError: If points or centres are not finite or do not go together.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
        >>> found = balanced_kmeans(x, 2, generator=torch.Generator().manual_seed(0))
        >>> found.sizes.tolist(), bool(found.labels[0] == found.labels[1] != found.labels[2])
        ([2, 2], True)
    """
    rows = feature_rows("x", x)
    _check(rows, n_clusters, method, metric, max_iter)
    start = None if init is None else _start(init, rows, n_clusters)
    points = Points.of(rows, metric, start)
    centers = None if start is None else points.centers_from(start)
    if method == "auto":
        method = "greedy" if len(rows) * n_clusters <= SCORES else "hybrid"
    run = _Run(points, n_clusters, generator)
    if method == "hybrid":
        run.hybrid(max_iter, centers)
    elif method == "bisection":
        run.keep(_labels_of_pieces(pieces(points, n_clusters, 0, generator), len(points)))
    else:
        run.lloyd(_flat(points, n_clusters, method), max_iter, centers)
    return run.result(rows.dtype)


class _Run:
    """What has been found so far, and the best of it."""

    def __init__(self, points: Points, m: int, generator: torch.Generator) -> None:
        self.points, self.m, self.generator = points, m, generator
        self.objective = -float("inf")
        self.labels = self.sums = self.sizes = torch.empty(0)
        self.seen: set[bytes] = set()
        self.n_iter, self.converged = 0, False

    def keep(self, labels: Tensor) -> Tensor:
        """Note an assignment; centres that it makes."""
        sums, sizes = self.points.sums(labels, self.m)
        objective = self.points.objective(sums, sizes)
        if objective > self.objective:
            self.labels, self.sums, self.sizes, self.objective = labels, sums, sizes, objective
        seen = hashlib.blake2b(labels.cpu().numpy().tobytes()).digest()
        self.n_iter, self.converged = self.n_iter + 1, seen in self.seen
        self.seen.add(seen)
        return self.points.centers(sums, sizes)

    def lloyd(self, assign: Callable[[Tensor], Tensor], max_iter: int, centers: Tensor | None) -> None:
        """Assignment and means in turn, until an assignment comes back."""
        if centers is None:
            centers = seeds(self.points, self.m, self.generator)
        while not self.converged and self.n_iter < max_iter:
            centers = self.keep(assign(centers))

    def hybrid(self, max_iter: int, centers: Tensor | None) -> None:
        """Pieces first, unless there are centres; then sweeps over all points."""
        left = min(SWEEPS, max_iter) if centers is not None else min(SWEEPS, max_iter - 1)
        labels = None
        if centers is None:
            parts = pieces(self.points, self.m, PIECE, self.generator)
            labels = _labels_of_pieces(parts, len(self.points))
            for rows, count in parts:
                if count > 1:
                    inner = _Run(self.points.take(rows), count, self.generator)
                    inner.lloyd(_flat(inner.points, count, "greedy"), min(PIECE_ITERATIONS, max_iter), None)
                    labels[rows] += inner.labels
            centers = self.keep(labels)
        for _ in range(left):
            if not self.converged:
                labels = listed_assignment(self.points, centers, self.generator, labels)
                centers = self.keep(labels)

    def result(self, dtype: torch.dtype) -> BalancedClusters:
        """As users see it."""
        centers = self.points.centers_to(self.points.centers(self.sums, self.sizes)).to(dtype)
        return BalancedClusters(self.labels, centers, self.sizes, self.objective, self.n_iter, self.converged)


def _flat(points: Points, m: int, method: Method) -> Callable[[Tensor], Tensor]:
    """Assignment by all scores, whose memory is used again and again."""
    assign = greedy_labels if method == "greedy" else optimal_assignment
    scores = torch.empty(len(points), m, device=points.rows.device)
    return lambda centers: assign(points.scores(centers, out=scores))


def _labels_of_pieces(parts: list[tuple[Tensor, int]], n: int) -> Tensor:
    """The first cluster of every point's piece."""
    labels = torch.empty(n, dtype=torch.int64, device=parts[0][0].device)
    first = 0
    for rows, count in parts:
        labels[rows] = first
        first += count
    return labels


def _check(rows: Tensor, m: int, method: str, metric: str, max_iter: int) -> None:
    for name, value, choices in (("method", method, METHODS), ("metric", metric, METRICS)):
        if value not in choices:
            raise ConfigError(f"{name}: one of {', '.join(choices)} expected, got {value!r}")
    for name, number in (("n_clusters", m), ("max_iter", max_iter)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(f"{name}: an integer of at least 1 expected, got {number!r}")
    if m > len(rows):
        raise ConfigError(
            f"n_clusters: at most the number of points expected, got {m} with n_samples={len(rows)}; ask for fewer"
        )


def _start(init: Tensor | NDArray[Any], rows: Tensor, m: int) -> Tensor:
    start = feature_rows("init", init)
    if start.shape != (m, rows.shape[1]):
        raise DataError(
            f"init: shape {(m, rows.shape[1])} expected, one centre a cluster, got {tuple(start.shape)}"
        )
    return start.to(rows.device)
