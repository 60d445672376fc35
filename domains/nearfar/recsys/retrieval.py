"""From histories of item indices to the best next items, in batches of similar length and tiles of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.recsys.topk import TILE, Tiles, top_k

BATCH_SIZE = 1024  # histories scored at a time, at most
BATCH_ITEMS = 16_384  # and items in them, padding counted


class Scorer(Protocol):
    """What a recommender needs from a trained model.

    One that scores by inner products (``SASRecEncoder``) also has ``embed(histories) -> (N, d)`` and an embedding
    ``item`` whose row ``i`` is the vector of item ``i``; it is never asked for all scores at once. Any other
    (``ItemCounts``) is, a batch of histories at a time.
    """

    arguments: dict[str, Any]

    def score(self, histories: list[NDArray[np.int64]]) -> Tensor:
        """Score of every item after each history, ``(N, num_items)``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Weights."""


@dataclass(frozen=True)
class Ranked:
    """The best items of some histories, best first.

    Attributes:
        items: Item indices, int64, shape ``(N, k)``; where fewer were left, the rest means nothing.
        scores: float32, shape ``(N, k)``; -inf where fewer were left.
        counts: Items of each row, int64, shape ``(N,)``.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]


def item_vectors(scorer: Any) -> Tensor | None:
    """Vectors of all items, ``(num_items, d)``; ``None`` for a scorer without."""
    embedding = getattr(scorer, "item", None)
    vectors: Tensor | None = None if embedding is None else embedding.weight.detach()[1:]
    return vectors


@torch.no_grad()
def user_vectors(scorer: Any, histories: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
    """Vectors of users after some histories, in their order.

    Args:
        scorer: Has vectors; see :class:`Scorer`.
        histories: Item indices, oldest first, each non-empty; 0 is an item that nobody knows.

    Returns:
        float32, shape ``(N, d)``.
    """
    vectors = np.empty((len(histories), scorer.item.weight.shape[1]), dtype=np.float32)
    for rows in _batches(scorer, histories):
        vectors[rows] = scorer.embed([histories[row] for row in rows]).float().cpu().numpy()
    return vectors


@torch.no_grad()
def rank_items(
    scorer: Any,
    histories: Sequence[NDArray[np.int64]],
    k: int,
    *,
    seen: Sequence[NDArray[np.int64]] | None = None,
    candidates: NDArray[np.int64] | None = None,
    num_items: int,
    tile: int = TILE,
) -> Ranked:
    """The ``k`` best items after each history.

    Memory is ``BATCH_SIZE * tile``, however many items there are (with a scorer of inner products). Of equal scores
    the item of lower index comes first.

    Args:
        scorer: Trained model; see :class:`Scorer`.
        histories: Item indices, oldest first, each non-empty; 0 is an item that nobody knows.
        k: Items per history, at most as many as there are candidates.
        seen: Items that a row may not have, by index.
        candidates: Item indices to choose from, ascending; ``None`` is all.
        num_items: Items in all.
        tile: Candidates scored at a time.
    """
    items = np.zeros((len(histories), k), dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    if candidates is None:
        candidates = np.arange(1, num_items + 1)
    place = np.full(num_items + 1, -1)
    place[candidates] = np.arange(len(candidates))
    vectors = item_vectors(scorer)
    if vectors is not None and len(candidates) < num_items:
        vectors = vectors[torch.from_numpy(candidates - 1).to(vectors.device)]
    for rows in _batches(scorer, histories):
        batch = [histories[row] for row in rows]
        hidden = None if seen is None else [_places(place, seen[row]) for row in rows]
        tiles = (
            _products(scorer, batch, vectors) if vectors is not None else _columns(scorer, batch, candidates)
        )
        best, places = top_k(tiles, len(rows), len(candidates), k, hidden=hidden, tile=tile)
        scores[rows] = best.float().cpu().numpy()
        items[rows] = candidates[places.cpu().numpy()]
    return Ranked(items, scores, (scores > -np.inf).sum(1))


def _places(place: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
    found = place[items]
    return found[found >= 0]


def _products(scorer: Any, batch: list[NDArray[np.int64]], vectors: Tensor) -> Tiles:
    users = scorer.embed(batch)
    return lambda part: users @ vectors[part].T


def _columns(scorer: Any, batch: list[NDArray[np.int64]], candidates: NDArray[np.int64]) -> Tiles:
    scores = scorer.score(batch)
    columns = torch.from_numpy(candidates - 1).to(scores.device)
    return lambda part: scores[:, columns[part]]


def _batches(scorer: Any, histories: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Rows of some histories of similar length at a time: less padding, and memory that long ones do not raise."""
    lengths = np.minimum([len(history) for history in histories], getattr(scorer, "max_length", 1))
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        rows = min(BATCH_SIZE, max(1, BATCH_ITEMS // max(1, int(lengths[order[begin]]))))
        yield order[begin : begin + rows]
        begin += rows
