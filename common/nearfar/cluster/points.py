"""Points and centres on a grid of binary fractions, where scores and sums are exact in whatever order.

A product of matrices in floating point differs in its last bit with the number of threads, the processor and the size
of the blocks; a clustering that ranks scores can turn on that bit. Here rows are scaled to length 1 at most and their
entries rounded to multiples of 2^-24, entries of centres to 2^-26. Products are then multiples of 2^-50, sums of them
stay below 2, and float64 holds all of these numbers: no sum is ever rounded. The few sums that are not of such
numbers, squared lengths, are added pairwise in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nearfar.errors import DataError

Metric: TypeAlias = Literal["cosine", "euclidean"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean")

POINT_GRID, CENTER_GRID = 2.0**24, 2.0**26
MOST_ROWS = 2**28  # sums of more could leave the integers that float64 holds
BLOCK = 2**20  # scores at a time in float64: they stay in the cache
FEWEST = 256  # rows at a time
ROWS = 2**13  # at a time where no scores are made
FEW = 2**24  # entries


def row_sums(x: Tensor) -> Tensor:
    """Sum of every row, added pairwise: the same bits on every device with any number of threads.

    Args:
        x: Shape ``(n, d)``.

    Returns:
        Shape ``(n,)``.

    Example:
        >>> row_sums(torch.tensor([[1.0, 2.0, 4.0]])).tolist()
        [7.0]
    """
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        folded = x[:, :half] + x[:, half : 2 * half]
        x = torch.cat([folded, x[:, 2 * half :]], 1) if x.shape[1] % 2 else folded
    return x[:, 0]


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1 in float64; rows of zeros stay zero.

    Args:
        x: Shape ``(n, d)``.

    Returns:
        Same shape.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    x = x.double()
    # By the largest entry first: squares of very small and very large entries leave the range of floats.
    largest = x.abs().amax(1, keepdim=True)
    x = x / largest.where(largest > 0, 1)
    length = row_sums(x * x).sqrt()[:, None]
    return x / length.where(length > 0, 1)


@dataclass(frozen=True)
class Points:
    """Rows to cluster, as the algorithms see them.

    The score of a pair is minus half the squared distance: for cosine that is the similarity minus 1, and for rows
    of zeros, whose similarity is 0, it is -1.

    Attributes:
        rows: On the grid, none longer than 1, shape ``(n, d)``; float64 if there are few, as that saves conversions,
            otherwise float32, which holds the same numbers.
        metric: What a distance is.
        shift: What was subtracted, float64, shape ``(d,)``; zeros for cosine.
        scale: What the rest was divided by; a power of two.
    """

    rows: Tensor
    metric: Metric
    shift: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, x: Tensor, metric: Metric, also: Tensor | None = None) -> Points:
        """Points of a matrix.

        Args:
            x: Finite, float32 or float64, shape ``(n, d)``.
            metric: What a distance is.
            also: Centres that have to be in range too, shape ``(m, d)``.

        Raises:
            DataError: If there are more rows than can be added up exactly.
        """
        if len(x) > MOST_ROWS:
            raise DataError(f"x: at most {MOST_ROWS:,} rows expected, got {len(x):,}; cluster a sample")
        rows = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        shift, scale = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device), 1.0
        if metric == "cosine":
            for part in _parts(len(x), ROWS):
                rows[part] = _rounded(unit_rows(x[part]), POINT_GRID)
            return cls(_stored(rows), metric, shift, scale)
        shift = _mean(x)
        both = [x] if also is None else [x, also]
        # By the largest entry first: squares of very small and very large entries leave the range of floats.
        coarse = _power_of_two(
            max(float((one.double() - shift).abs().max()) for every in both for one in _split(every))
        )
        scale = coarse * _power_of_two(
            max(
                float(row_sums(((one.double() - shift) / coarse).square()).max().sqrt())
                for every in both
                for one in _split(every)
            )
        )
        for part in _parts(len(x), ROWS):
            rows[part] = _rounded((x[part].double() - shift) / scale, POINT_GRID)
        return cls(_stored(rows), metric, shift, scale)

    def take(self, index: Tensor) -> Points:
        """Some of them.

        Args:
            index: Rows, int64, shape ``(k,)``.
        """
        rows = self.rows.index_select(0, index)
        return Points(_stored(rows), self.metric, self.shift, self.scale)

    def centers_from(self, given: Tensor) -> Tensor:
        """Centres as the algorithms see them, from centres as users do.

        Args:
            given: Shape ``(m, d)``.

        Returns:
            On the grid, float64, same shape.
        """
        if self.metric == "cosine":
            return _rounded(unit_rows(given), CENTER_GRID)
        return _rounded((given.double() - self.shift) / self.scale, CENTER_GRID)

    def centers_to(self, centers: Tensor) -> Tensor:
        """The way back: float64, shape ``(m, d)``; unit rows for cosine.

        Args:
            centers: On the grid, shape ``(m, d)``.
        """
        return unit_rows(centers) if self.metric == "cosine" else centers * self.scale + self.shift

    def sums(self, labels: Tensor, m: int) -> tuple[Tensor, Tensor]:
        """Sum and number of the rows of every cluster; exact.

        Args:
            labels: Cluster of every row, int64, shape ``(n,)``.
            m: Clusters.

        Returns:
            float64 ``(m, d)`` and int64 ``(m,)``.
        """
        total = torch.zeros(m, self.rows.shape[1], dtype=torch.float64, device=self.rows.device)
        for part in _parts(len(self), ROWS):
            total.index_add_(0, labels[part], self.rows[part].double())
        return total, torch.bincount(labels, minlength=m)

    def centers(self, sums: Tensor, sizes: Tensor) -> Tensor:
        """Best centre of every cluster, on the grid: the mean, of length 1 for cosine.

        Args:
            sums: As of :meth:`sums`, shape ``(m, d)``.
            sizes: As of :meth:`sums`, shape ``(m,)``.
        """
        means = unit_rows(sums) if self.metric == "cosine" else sums / sizes.clamp(min=1)[:, None]
        return _rounded(means, CENTER_GRID)

    def objective(self, sums: Tensor, sizes: Tensor) -> float:
        """Mean cosine to the own centre, or minus the mean squared distance to it, from sums alone.

        Args:
            sums: As of :meth:`sums`, shape ``(m, d)``.
            sizes: As of :meth:`sums`, shape ``(m,)``.
        """
        if self.metric == "cosine":
            return float(row_sums(row_sums(sums * sums).sqrt()[None])[0]) / len(self)
        within = float(row_sums((row_sums(sums * sums) / sizes.clamp(min=1))[None])[0])
        lengths = row_sums(torch.cat([_halves(rows) for rows in _split(self.rows)])[None])
        return (within - 2 * float(lengths[0])) / len(self) * self.scale**2

    def scores(self, centers: Tensor, index: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Minus half the squared distance of rows to centres, exact to the last rounding.

        Args:
            centers: On the grid, shape ``(m, d)``.
            index: Which rows, shape ``(k,)``; all by default.
            out: Where to, float32, shape ``(k, m)``.

        Returns:
            float32, shape ``(k, m)``.
        """
        count = len(self) if index is None else len(index)
        if out is None:
            out = torch.empty(count, len(centers), dtype=torch.float32, device=self.rows.device)
        if self.metric == "cosine":
            minus = centers.new_full((len(centers),), -1.0)
        else:
            minus = _rounded(row_sums(centers * centers) / -2, 2.0**50)
        for part in _parts(count, max(BLOCK // max(len(centers), 1), FEWEST)):
            rows = self.rows[part] if index is None else self.rows.index_select(0, index[part])
            product = torch.addmm(minus, rows.double(), centers.mT)
            if self.metric == "cosine":
                out[part] = product
            else:
                torch.sub(product, _halves(rows)[:, None], out=out[part])
        return out


def _halves(rows: Tensor) -> Tensor:
    """Half the squared lengths."""
    return _rounded(row_sums(rows.double().square()) / 2, 2.0**50)


def _stored(rows: Tensor) -> Tensor:
    return rows.double() if rows.numel() <= FEW else rows


def _rounded(x: Tensor, grid: float) -> Tensor:
    return (x * grid).round_() / grid


def _power_of_two(size: float) -> float:
    """The smallest one above ``size``, as far as there are such numbers; 1 for 0."""
    return math.ldexp(1.0, min(math.frexp(size)[1], 1023)) if size else 1.0


def _split(x: Tensor) -> Iterator[Tensor]:
    return (x[part] for part in _parts(len(x), ROWS))


def _mean(x: Tensor) -> Tensor:
    """Mean of all rows, of entries rounded so that it is exact."""
    scale = _power_of_two(float(x.abs().max()))
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for part in _parts(len(x), ROWS):
        total += _rounded(x[part].double() / scale, POINT_GRID).sum(0)
    return total / len(x) * scale


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
