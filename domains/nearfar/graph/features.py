"""Node features times the first weight: as sparse rows where most of them are zero."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nearfar.graph.pattern import Pattern, row_pointer, spmm

# Below this share of numbers that are not zero, sparse rows are the faster ones.
_DENSE = 0.1


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n nodes.

    Attributes:
        values: All of them, shape ``(n, d)``, or those that are not zero, shape ``(K,)``.
        pattern: Where these are; ``None`` for all.
    """

    values: Tensor
    pattern: Pattern | None = None

    @classmethod
    def of(cls, x: Tensor) -> Features:
        """In the form that multiplies faster.

        Args:
            x: Shape ``(n, d)``.
        """
        places = x.nonzero()
        if len(places) > _DENSE * x.numel():
            return cls(x)
        row, col = places.T
        return cls(x[row, col], Pattern(row_pointer(row, len(x)), col.contiguous(), x.shape[1]))

    def rows(self, nodes: Tensor) -> Features:
        """Of some nodes.

        Args:
            nodes: int64, shape ``(k,)``.
        """
        if self.pattern is None:
            return Features(self.values[nodes])
        part, entries = self.pattern.rows(nodes)
        return Features(self.values[entries], part)

    def times(self, weight: Tensor) -> Tensor:
        """X W.

        Args:
            weight: Shape ``(d, d1)``.

        Returns:
            Shape ``(n, d1)``.
        """
        values = self.values.to(weight.dtype)
        return values @ weight if self.pattern is None else spmm(self.pattern, values, weight)
