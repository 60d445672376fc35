"""The k nearest rows, exactly: one matrix product per block of rows, then the best columns of it.

The product form of a Euclidean distance, ``|a|^2 - 2 a.b + |b|^2``, loses the digits of near neighbours. Here it only
chooses candidates, a few more than k; their distances are then taken from differences. A bound on the rounding of
the product says for which rows a better neighbour might have been missed; those are searched again in float64, and
what is still open there by differences to all rows.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.checks import check_choice
from nearfar.errors import ConfigError, DataError
from nearfar.neighbors.rows import feature_rows

Metric: TypeAlias = Literal["euclidean", "cosine"]

SCORES = 2**24  # at a time
TILE = (
    2**15
)  # reference rows at a time: a product of many rows by TILE is fast, one of few rows by all is not
DIFFERENCES = 2**22  # numbers at a time


@torch.no_grad()
def nearest(
    queries: Tensor | NDArray[Any],
    k: int,
    reference: Tensor | NDArray[Any] | None = None,
    *,
    metric: Metric = "euclidean",
    exclude_self: bool | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest reference rows of every query, nearest first.

    Memory is ``O(chunk * k + SCORES)`` beside input and output. The same call gives the same answer; of equally near
    rows those found are listed by row, but which of them are found where k cuts through equals is up to ``torch.topk``.

    Args:
        queries: Shape ``(n, d)``.
        k: Neighbours per query.
        reference: Where they are looked for, shape ``(m, d)``; the queries themselves by default.
        metric: ``"euclidean"``; or ``"cosine"``, where a row of zeros has similarity 0 to every row.
        exclude_self: Whether row i is not a neighbour of query i. By default if there is no ``reference``.
        chunk: Queries at a time; by default as many as make ``SCORES`` scores.

    Returns:
        Distances ascending, or cosine similarities descending, in the precision of the input; and rows of the
        reference, int64; both ``(n, k)``, on the device of the queries.

    Raises:
        ConfigError: If ``k`` is not from 1 to the number of rows to choose from, or ``chunk`` is below 1.
        DataError: If features are not finite, or the two matrices do not go together.

    Example:
        >>> distance, rows = nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1)
        >>> distance.flatten().tolist(), rows.flatten().tolist()
        ([1.0, 1.0, 4.0], [1, 0, 1])
    """
    check_choice("metric", metric, ("euclidean", "cosine"))
    rows = feature_rows("queries", queries)
    among = rows if reference is None else feature_rows("reference", reference)
    alone = reference is None if exclude_self is None else exclude_self
    if (rows.shape[1], rows.dtype, rows.device) != (among.shape[1], among.dtype, among.device):
        raise DataError(
            f"reference: {rows.dtype} with {rows.shape[1]} columns on {rows.device} expected, as the queries are, got "
            f"{among.dtype} with {among.shape[1]} columns on {among.device}"
        )
    if alone and len(rows) != len(among):
        raise DataError(
            f"exclude_self: needs as many reference rows as queries, got {len(among)} and {len(rows)}; "
            "leave it out, or give no reference"
        )
    if not 1 <= k <= len(among) - alone:
        raise ConfigError(
            f"k: from 1 to the {max(len(among) - alone, 0)} rows to choose from expected, got {k}"
        )
    if chunk is None:
        chunk = max(SCORES // min(len(among), TILE), 1)
    elif chunk < 1:
        raise ConfigError(f"chunk: at least 1 row at a time expected, got {chunk}")
    own = torch.arange(len(rows), device=rows.device) if alone else None
    if metric == "cosine":
        return _most_alike(rows, among, k, own, chunk)
    if not len(rows):
        return rows.new_empty(0, k), torch.empty(0, k, dtype=torch.int64, device=rows.device)
    # By a power of two, which changes no digit: squares neither overflow nor vanish.
    exponent = torch.frexp(torch.maximum(rows.abs().max(), among.abs().max())).exponent
    rows = torch.ldexp(rows, -exponent)
    among = rows if reference is None else torch.ldexp(among, -exponent)
    distance, index = _closest(rows, among, k, own, chunk)
    return torch.ldexp(distance, exponent), index


def _most_alike(rows: Tensor, among: Tensor, k: int, own: Tensor | None, chunk: int) -> tuple[Tensor, Tensor]:
    units = _units(rows)
    others = units if among is rows else _units(among)
    left, right = _workable(units), _workable(others)
    best = rows.new_empty(len(rows), k)
    index = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        score, column = _best_columns(left[part], right, None, k, None if own is None else own[part])
        best[part], index[part] = _ordered(score.clamp(-1, 1).to(rows.dtype), column, descending=True)
    return best, index


def _units(x: Tensor) -> Tensor:
    # By the largest entry first: squares of very small and very large entries leave the range of floats.
    x = x / x.abs().amax(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.where(length > 0, 1)


def _closest(rows: Tensor, among: Tensor, k: int, own: Tensor | None, chunk: int) -> tuple[Tensor, Tensor]:
    """Distances and rows by increasing distance; ``own[i]`` is a reference row that query i may not have."""
    center = among.mean(0)
    right = _workable(among - center)
    half = right.square().sum(1) / 2
    longest = (half.max() * 2).sqrt()
    eps = torch.finfo(right.dtype).eps
    available = len(among) - (own is not None)
    count = min(k + max(k // 2, 8), available)
    distance = rows.new_empty(len(rows), k)
    index = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
    unsure = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        left = (rows[part] - center).to(right.dtype)
        skipped = None if own is None else own[part]
        score, column = _best_columns(left, right, half, count, skipped)
        exact, column = _ordered(_distances(rows[part], among, column), column)
        distance[part], index[part] = exact[:, :k], column[:, :k]
        if count < available:
            # Squared distance of the best row that is no candidate, at least. A sum of d products is off by
            # d roundings of its largest possible size.
            length = torch.linalg.vector_norm(left, dim=1)
            rounding = 2 * (rows.shape[1] + 8) * eps * (length + longest).square()
            missed = length.square() - 2 * score[:, -1] - rounding
            kth = exact[:, k - 1].to(right.dtype)
            unsure[part] = (kth > 0) & ~(kth.square() * (1 + 8 * eps) <= missed)
    if (again := unsure.nonzero()[:, 0]).numel():
        skipped = None if own is None else own[again]
        if rows.dtype == torch.float32:
            exact, column = _closest(rows[again].double(), among.double(), k, skipped, chunk)
        else:
            exact, column = _by_differences(rows[again], among, k, skipped)
        distance[again], index[again] = exact.to(rows.dtype), column
    return distance, index


def _workable(x: Tensor) -> Tensor:
    """In float64 if products in float32 are allowed to round their operands to TF32 on this device."""
    matmul = torch.backends.cuda.matmul
    if not x.is_cuda or x.dtype != torch.float32:
        return x
    chosen = getattr(matmul, "fp32_precision", None) or ("tf32" if matmul.allow_tf32 else "ieee")
    return x.double() if chosen == "tf32" else x


def _best_columns(
    left: Tensor, right: Tensor, minus: Tensor | None, k: int, own: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of ``left @ right.T - minus`` in every row and their columns, largest first."""
    best: Tensor | None = None
    column = torch.empty(0)
    for start in range(0, len(right), TILE):
        tile = right[start : start + TILE]
        scores = left @ tile.mT
        if minus is not None:
            scores -= minus[start : start + TILE]
        if own is not None:
            inside = own - start
            hidden = (inside >= 0) & (inside < len(tile))
            place = inside.clamp(0, len(tile) - 1)[:, None]
            scores.scatter_(1, place, scores.gather(1, place).masked_fill(hidden[:, None], -torch.inf))
        value, where = scores.topk(min(k, len(tile)), dim=1)
        where += start
        if best is not None:
            value, where = torch.cat([best, value], 1), torch.cat([column, where], 1)
            value, order = value.topk(min(k, value.shape[1]), dim=1)
            where = where.gather(1, order)
        best, column = value, where
    assert best is not None
    return best, column


def _distances(rows: Tensor, among: Tensor, column: Tensor) -> Tensor:
    """Distance of every query to its own candidates, ``(n, c)``, from differences."""
    found = rows.new_empty(column.shape)
    step = max(DIFFERENCES // (column.shape[1] * rows.shape[1]), 1)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        chosen = column[part]
        difference = among.index_select(0, chosen.flatten()).view(*chosen.shape, -1)
        difference -= rows[part, None]
        found[part] = torch.linalg.vector_norm(difference, dim=2)
    return found


def _by_differences(rows: Tensor, among: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """As :func:`_closest` without products: slow, and right however close the rows are."""
    parts = []
    for block in torch.arange(len(rows), device=rows.device).split(max(SCORES // len(among), 1)):
        distance = torch.cdist(rows[block], among, compute_mode="donot_use_mm_for_euclid_dist")
        if own is not None:
            distance.scatter_(1, own[block, None], torch.inf)
        value, column = distance.topk(k, dim=1, largest=False)
        parts.append(_ordered(value, column))
    return torch.cat([value for value, _ in parts]), torch.cat([column for _, column in parts])


def _ordered(value: Tensor, column: Tensor, *, descending: bool = False) -> tuple[Tensor, Tensor]:
    """By value, and equals by column."""
    column, order = column.sort(1)
    value, again = value.gather(1, order).sort(dim=1, descending=descending, stable=True)
    return value, column.gather(1, again)
