"""Means and products of features and targets, added up block by block: all that a ridge regression needs.

The memory is that of the products, whatever the number of rows. Everything is float64 and centred before it is
multiplied, so a mean far from zero costs no digits (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
Algorithm for Computing Sample Variances", 1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Numbers of a block: 32 MiB of float64.
BLOCK = 2**22


class Samples(Protocol):
    """Features and targets of forecasts that start at given rows, made block by block."""

    @property
    def num_features(self) -> int:
        """Columns of the features."""
        ...

    def num_targets(self, horizon: int) -> int:
        """Columns of the targets; those of a shorter horizon are the first of those of a longer one."""
        ...

    def features(self, rows: range) -> Tensor:
        """What forecasts that start at ``rows`` are made from, float64, shape ``(n, p)``."""
        ...

    def targets(self, rows: range, horizon: int) -> Tensor:
        """What they are to be, float64, shape ``(n, q)``."""
        ...


@dataclass(eq=False)
class Moments:
    """Of ``n`` rows with ``p`` features and ``q`` targets.

    Attributes:
        count: Rows added so far.
        mean_x: Shape ``(p,)``.
        mean_y: Shape ``(q,)``.
        xx: Products of centred features, shape ``(p, p)``.
        xy: Products of centred features and targets, shape ``(p, q)``.
        yy: Squares of centred targets, shape ``(q,)``.
    """

    count: int
    mean_x: Tensor
    mean_y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def empty(cls, num_features: int, num_targets: int) -> Moments:
        """Of no rows."""
        p, q = num_features, num_targets
        shapes: tuple[tuple[int, ...], ...] = ((p,), (q,), (p, p), (p, q), (q,))
        return cls(0, *(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows.

        Args:
            x: Features, shape ``(n, p)``.
            y: Targets, shape ``(n, q)``.
        """
        if not len(x):
            return
        x, y = x.double(), y.double()
        mean_x, mean_y = x.mean(0), y.mean(0)
        x, y = x - mean_x, y - mean_y
        total = self.count + len(x)
        apart_x, apart_y = mean_x - self.mean_x, mean_y - self.mean_y
        weight = self.count * len(x) / total
        self.xx.addmm_(x.t(), x).addr_(apart_x, apart_x, alpha=weight)
        self.xy.addmm_(x.t(), y).addr_(apart_x, apart_y, alpha=weight)
        self.yy += y.square().sum(0) + weight * apart_y.square()
        self.mean_x += apart_x * (len(x) / total)
        self.mean_y += apart_y * (len(x) / total)
        self.count = total

    def first_targets(self, num_targets: int) -> Moments:
        """A copy with the first columns of the targets only."""
        q = num_targets
        return Moments(
            self.count,
            self.mean_x.clone(),
            self.mean_y[:q].clone(),
            self.xx.clone(),
            self.xy[:, :q].clone(),
            self.yy[:q].clone(),
        )


def blocks(rows: range, width: int) -> list[range]:
    """Cut rows into runs that are ``width`` numbers a row and ``BLOCK`` numbers at most, one row at least.

    Example:
        >>> blocks(range(10, 15), width=BLOCK // 2)
        [range(10, 12), range(12, 14), range(14, 15)]
    """
    size = max(BLOCK // max(width, 1), 1)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def nested_moments(samples: Samples, rows_of: dict[int, range]) -> dict[int, Moments]:
    """Moments of several horizons in little more than the time of the longest.

    The rows of a longer horizon are the first of those of a shorter one, and the targets of the shorter one are the
    first of those of the longer one, so only the rows in between are added.

    Args:
        samples: Features and targets.
        rows_of: Rows at which forecasts start, by horizon; all start at the same row.

    Returns:
        Moments by horizon.
    """
    found: dict[int, Moments] = {}
    moments = Moments.empty(samples.num_features, samples.num_targets(max(rows_of)))
    done = 0
    for horizon in sorted(rows_of, reverse=True):
        rows, num_targets = rows_of[horizon], samples.num_targets(horizon)
        moments = moments.first_targets(num_targets)
        for block in blocks(rows[done:], samples.num_features + num_targets):
            moments.add(samples.features(block), samples.targets(block, horizon))
        done = len(rows)
        found[horizon] = moments
    return found
