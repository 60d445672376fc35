"""Approximate search over item vectors, for catalogues too large to score in full; it says what it misses.

Graph indexes search by angle or distance best, while recommenders score by inner product. Vectors are therefore
lifted by one coordinate: items to one common length, users by a zero. The angle between the two then sorts items as
the inner product does (Bachrach et al., RecSys 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.errors import ConfigError
from nearfar.optional import require
from nearfar.recsys.retrieval import Ranked, rank_items, user_vectors
from nearfar.recsys.topk import top_k

SAMPLE = 256  # queries of a self-check
TOLERANCE = 1e-6  # within which two scores are equal, relative


class Neighbors(Protocol):
    """An index over item vectors, row ``i`` for item index ``i + 1``."""

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Rows with the (presumably) largest inner products, best first, int64, shape ``(N, k)``; -1 where none."""


Backend = Callable[[NDArray[np.float32]], Neighbors]


class USearchNeighbors:
    """The graph index of the package ``usearch``.

    Args:
        items: Item vectors, float32, shape ``(V, d)``.
        connectivity: Edges per item; more find more and take more memory.
        expansion_add: Candidates looked at while the graph is made.
        expansion_search: Candidates looked at per query; more find more and take longer.

    Raises:
        MissingDependencyError: If usearch is not installed.
    """

    def __init__(
        self,
        items: NDArray[np.float32],
        *,
        connectivity: int = 32,
        expansion_add: int = 256,
        expansion_search: int = 256,
    ) -> None:
        index = require("usearch.index", "approximate neighbours")
        lifted = lift_items(items)
        self._index: Any = index.Index(
            ndim=lifted.shape[1],
            metric="cos",
            dtype="f32",
            connectivity=connectivity,
            expansion_add=expansion_add,
            expansion_search=expansion_search,
        )
        self._index.add(np.arange(len(lifted)), lifted)

    def search(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """As :meth:`Neighbors.search`."""
        lifted = np.pad(queries, ((0, 0), (0, 1)))
        found = np.full((len(queries), k), -1, dtype=np.int64)
        matches = self._index.search(lifted, k)
        keys = np.asarray(matches.keys).reshape(len(queries), -1).astype(np.int64)
        there = np.arange(keys.shape[1]) < np.reshape(
            matches.counts if len(queries) > 1 else keys.shape[1], (-1, 1)
        )
        found[:, : keys.shape[1]] = np.where(there, keys, -1)
        return found


def lift_items(items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Item vectors with one more coordinate that gives all of them the length of the longest.

    Args:
        items: Shape ``(V, d)``.

    Returns:
        float32, shape ``(V, d + 1)``.

    Example:
        >>> lift_items(np.array([[3.0, 4.0], [0.0, 3.0]], dtype=np.float32)).tolist()
        [[3.0, 4.0, 0.0], [0.0, 3.0, 4.0]]
    """
    squares = (items.astype(np.float64) ** 2).sum(1)
    last = np.sqrt(np.maximum(squares.max(initial=0.0) - squares, 0.0))
    return np.concatenate([items, last[:, None]], axis=1, dtype=np.float32)


def recall_against_exact(
    neighbors: Neighbors, items: NDArray[np.float32], queries: NDArray[np.float32], k: int
) -> float:
    """Share of the exact ``k`` best items that an index finds, averaged over queries.

    An item counts as found also where another one of equal score is returned in its place.

    Args:
        neighbors: The index.
        items: What it was made from, shape ``(V, d)``.
        queries: User vectors, shape ``(N, d)``.
        k: Items per query.
    """
    exact, wanted = torch.from_numpy(items), torch.from_numpy(queries).double()
    best, _ = top_k(lambda part: wanted @ exact[part].double().T, len(queries), len(items), k)
    right = 0
    for query, row, edge in zip(queries, neighbors.search(queries, k), best[:, -1].tolist(), strict=True):
        reached = items[np.unique(row[row >= 0])].astype(np.float64) @ query.astype(np.float64)
        right += min(k, int((reached >= edge - TOLERANCE * abs(edge)).sum()))
    return right / (k * len(queries))


def build_neighbors(
    items: NDArray[np.float32],
    queries: NDArray[np.float32],
    *,
    k: int = 20,
    min_recall: float = 0.95,
    backend: Backend = USearchNeighbors,
) -> Neighbors:
    """An index over item vectors that has shown on some queries that it finds what exact search finds.

    Args:
        items: ``item_vectors`` of a recommender, shape ``(V, d)``.
        queries: User vectors as they will be searched for (``encode``), shape ``(N, d)``; at most 256 of them are
            used, evenly spread.
        k: Items per query of the check.
        min_recall: Smallest mean share of the exact ``k`` best that is good enough, in (0, 1].
        backend: Makes the index.

    Returns:
        The index, for ``use_neighbors``.

    Raises:
        ConfigError: If it finds less than ``min_recall``, or there is nothing to check it with.
        MissingDependencyError: If the package behind it is not installed.
    """
    if not 0 < min_recall <= 1 or not 1 <= k <= len(items) or len(queries) == 0:
        raise ConfigError(
            f"min_recall in (0, 1], k in 1 to {len(items)} and a query or more are needed, got {min_recall}, {k} and "
            f"{len(queries)} queries"
        )
    neighbors = backend(items)
    sample = queries[np.linspace(0, len(queries) - 1, min(SAMPLE, len(queries)), dtype=np.int64)]
    recall = recall_against_exact(neighbors, items, sample, k)
    if recall < min_recall:
        raise ConfigError(
            f"the index finds {recall:.3f} of the {k} best items, min_recall is {min_recall}: raise its "
            "expansion_search or connectivity, lower min_recall, or search exactly"
        )
    return neighbors


@torch.no_grad()
def approximate_rank(
    neighbors: Neighbors,
    scorer: Any,
    histories: Sequence[NDArray[np.int64]],
    k: int,
    *,
    seen: Sequence[NDArray[np.int64]] | None,
    num_items: int,
) -> Ranked:
    """As :func:`nearfar.recsys.retrieval.rank_items`, from an index; rows it finds too little for are done exactly.

    Args:
        neighbors: The index over the item vectors of ``scorer``.
        scorer: Trained model.
        histories: Item indices, oldest first, each non-empty.
        k: Items per history.
        seen: Items that a row may not have, by index.
        num_items: Items in all.
    """
    users = user_vectors(scorer, histories)
    extra = max((len(row) for row in seen), default=0) if seen is not None else 0
    found = (
        neighbors.search(users, min(num_items, k + extra)) + 1 if len(users) else np.empty((0, k), np.int64)
    )
    vectors = scorer.item.weight.detach()
    items = np.zeros((len(histories), k), dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    missing = []
    for row, candidates in enumerate(found):
        hidden = np.append(seen[row], 0) if seen is not None else np.zeros(1, np.int64)
        kept = candidates[~np.isin(candidates, hidden)]
        if len(kept) < k:
            missing.append(row)
            continue
        exact = (vectors[torch.from_numpy(kept).to(vectors.device)].float().cpu().numpy()) @ users[row]
        best = np.lexsort((kept, -exact))[:k]
        items[row], scores[row] = kept[best], exact[best]
    if missing:
        rest = rank_items(
            scorer,
            [histories[row] for row in missing],
            k,
            seen=None if seen is None else [seen[row] for row in missing],
            num_items=num_items,
        )
        items[missing], scores[missing] = rest.items, rest.scores
    return Ranked(items, scores, (scores > -np.inf).sum(1))
