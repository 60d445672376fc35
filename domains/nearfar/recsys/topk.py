"""The k best of many candidates, exactly, tile by tile: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import DivergedError

TILE = 4096

# Scores of some rows for the candidates of one slice, (B, stop - start); may be written to.
Tiles = Callable[[slice], Tensor]


@torch.no_grad()
def top_k(
    tiles: Tiles,
    num_rows: int,
    num_candidates: int,
    k: int,
    *,
    hidden: Sequence[NDArray[np.int64]] | None = None,
    tile: int = TILE,
) -> tuple[Tensor, Tensor]:
    """The ``k`` best candidates of every row, as a stable sort by falling score would give them.

    Of equal scores the candidate that comes first wins, also where the tiles meet. Memory is
    ``num_rows * (tile + k)``.

    Args:
        tiles: Called with consecutive slices of the candidates.
        num_rows: Rows of every tile.
        num_candidates: Candidates in all.
        k: Candidates per row, at most ``num_candidates``.
        hidden: Candidates that a row may not have, by place; one array a row.
        tile: Candidates scored at a time.

    Returns:
        Scores and places, both ``(num_rows, k)``, best first. Where a row has fewer candidates left, the rest has
        score -inf, and its places mean nothing.

    Raises:
        DivergedError: If a score is NaN.

    Example:
        >>> scores = torch.tensor([[1.0, 3.0, 2.0, 3.0]])
        >>> best, places = top_k(lambda part: scores[:, part].clone(), 1, 4, 3, tile=2)
        >>> best.tolist(), places.tolist()
        ([[3.0, 3.0, 2.0]], [[1, 3, 2]])
    """
    rows, columns = _sorted_by_column(hidden or ())
    values: Tensor | None = None
    places = torch.empty(num_rows, 0, dtype=torch.int64)
    for start in range(0, num_candidates, tile):
        part = slice(start, min(start + tile, num_candidates))
        scores = tiles(part)
        inside = slice(*np.searchsorted(columns, (part.start, part.stop)))
        if inside.stop > inside.start:
            row = torch.from_numpy(rows[inside]).to(scores.device)
            scores[row, torch.from_numpy(columns[inside] - start).to(scores.device)] = -torch.inf
        best, index = stable_top(scores, min(k, scores.shape[1]))
        if values is None:
            values, places = best, index + start
        else:
            # What was found before stands first, so that it wins ties.
            values, index = torch.cat([values, best], 1), torch.cat([places, index + start], 1)
            values, order = stable_top(values, min(k, values.shape[1]))
            places = index.gather(1, order)
    if values is None:
        values = torch.empty(num_rows, 0)
    return values, places


def stable_top(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best columns of every row; of equal scores the one further left.

    ``torch.topk`` takes any of them. Which rows have equals at the edge is seen from one more column, and only those
    are gone through again, so that this costs little more where scores differ.

    Args:
        scores: Shape ``(B, N)``.
        k: Columns per row, at most ``N``.

    Returns:
        Scores and columns, both ``(B, k)``, best first.

    Raises:
        DivergedError: If a score is NaN.
    """
    best, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    if torch.isnan(best).any():  # the largest of all to topk
        raise DivergedError("the model scores items with NaN; it cannot recommend")
    if best.shape[1] > k:
        edge = best[:, k - 1]
        tied = ((best[:, k] == edge) & (edge > -torch.inf)).nonzero()[:, 0]
        best, columns = best[:, :k], columns[:, :k]
        if len(tied):
            columns = columns.index_put((tied,), _leftmost(scores[tied], edge[tied, None], k))
    # By column first, then by score without disturbing that.
    columns = columns.sort(1).values
    best, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return best, columns.gather(1, order)


def _leftmost(scores: Tensor, edge: Tensor, k: int) -> Tensor:
    """Columns above the edge, and of those at the edge as many from the left as there is room for, ``(B, k)``."""
    above, at = scores > edge, scores == edge
    room = k - above.sum(1, keepdim=True)
    chosen = above | (at & (at.cumsum(1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].view(-1, k)


def _sorted_by_column(hidden: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns to hide, by column."""
    if not hidden:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.repeat(np.arange(len(hidden)), [len(columns) for columns in hidden])
    columns = np.concatenate(hidden)
    order = np.argsort(columns, kind="stable")
    return rows[order], columns[order]
