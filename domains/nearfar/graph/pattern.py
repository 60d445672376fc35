"""Where a sparse matrix has entries, and the two products everything on graphs is made of.

``spmm`` multiplies a sparse matrix with a dense one, ``sddmm`` multiplies two dense ones at the entries only. Each
is the gradient of the other, so neither ever holds a vector per edge: memory is O(E) numbers beside the dense
operands.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from nearfar.objectives.views import at_least_float32

# Numbers of a gathered block: small enough for a cache, large enough for a kernel call not to matter.
BLOCK = 2**18


@dataclass(frozen=True, eq=False)
class Pattern:
    """Entries of a sparse matrix, row by row: row i is a node that hears, its columns are those it hears from.

    Attributes:
        rowptr: Row i has the entries ``rowptr[i]:rowptr[i + 1]``, int64, shape ``(n + 1,)``.
        col: Column of every entry, ascending within a row, int64, shape ``(E,)``.
        num_cols: Number of columns.
    """

    rowptr: Tensor
    col: Tensor
    num_cols: int

    @classmethod
    def of(cls, row: Tensor, col: Tensor, num_rows: int, num_cols: int) -> tuple[Pattern, Tensor]:
        """The pattern of entries in any order, and where each of its entries was among them.

        Args:
            row: Shape ``(E,)``, int64.
            col: Shape ``(E,)``, int64; no entry twice.
            num_rows: Number of rows.
            num_cols: Number of columns.
        """
        order = (row * num_cols + col).argsort()
        return cls(row_pointer(row, num_rows), col[order], num_cols), order

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.rowptr) - 1

    @cached_property
    def counts(self) -> Tensor:
        """Entries of every row, shape ``(n,)``."""
        return self.rowptr.diff()

    @cached_property
    def row(self) -> Tensor:
        """Row of every entry, shape ``(E,)``."""
        rows = torch.arange(self.num_rows, device=self.col.device)
        return rows.repeat_interleave(self.counts, output_size=len(self.col))

    @cached_property
    def key(self) -> Tensor:
        """One number an entry, ascending, shape ``(E,)``."""
        return self.row * self.num_cols + self.col

    def places(self, row: Tensor, col: Tensor) -> Tensor:
        """Where entries that are there stand among all; some other place for those that are not.

        Args:
            row: int64, shape ``(K,)``.
            col: int64, shape ``(K,)``.

        Returns:
            int64, shape ``(K,)``.
        """
        found = torch.searchsorted(self.key, row * self.num_cols + col)
        return found.clamp_(max=max(len(self.col) - 1, 0))

    @cached_property
    def to_transposed(self) -> Tensor:
        """Position in this pattern of every entry of the transposed one, shape ``(E,)``."""
        return self.col.argsort(stable=True)

    @cached_property
    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""
        rowptr = row_pointer(self.col, self.num_cols)
        return Pattern(rowptr, self.row[self.to_transposed], self.num_rows)

    @cached_property
    def is_symmetric(self) -> bool:
        """Whether the transposed matrix has entries at the same places."""
        other = self.transposed
        return torch.equal(self.rowptr, other.rowptr) and torch.equal(self.col, other.col)

    def kept(self, entries: Tensor) -> Pattern:
        """Some entries of the same matrix.

        Args:
            entries: Positions, ascending, int64, shape ``(K,)``.
        """
        return Pattern(row_pointer(self.row[entries], self.num_rows), self.col[entries], self.num_cols)

    def rows(self, rows: Tensor) -> tuple[Pattern, Tensor]:
        """Some rows, and where their entries were.

        Args:
            rows: int64, shape ``(k,)``.

        Returns:
            The pattern, all columns kept, and positions of shape ``(E',)``.
        """
        begin, counts = self.rowptr[rows], self.counts[rows]
        rowptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        shift = begin - rowptr[:-1]
        total = int(rowptr[-1])
        entries = torch.arange(total, device=rows.device) + shift.repeat_interleave(counts, output_size=total)
        return Pattern(rowptr, self.col[entries], self.num_cols), entries


def row_blocks(pattern: Pattern, entries: int) -> tuple[tuple[int, int, int, int], ...]:
    """Consecutive rows with about so many entries together, as (first row, end, first entry, end).

    Reads the row pointer, so on a GPU it waits for it; made once per pattern.

    Args:
        pattern: n rows.
        entries: Most entries of a block; a row that has more is a block of its own.

    Example:
        >>> pattern, _ = Pattern.of(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0]), 3, 2)
        >>> row_blocks(pattern, 2)
        ((0, 1, 0, 2), (1, 3, 2, 4))
    """
    pointer = pattern.rowptr.cpu().numpy()
    blocks, first = [], 0
    while first < pattern.num_rows:
        end = int(pointer.searchsorted(pointer[first] + entries, side="right")) - 1
        end = min(max(end, first + 1), pattern.num_rows)
        blocks.append((first, end, int(pointer[first]), int(pointer[end])))
        first = end
    return tuple(blocks)


def row_pointer(row: Tensor, num_rows: int) -> Tensor:
    """Where every row begins among sorted entries, and the end.

    Args:
        row: Row of every entry, in any order, shape ``(E,)``.
        num_rows: Number of rows.

    Returns:
        int64, shape ``(n + 1,)``.

    Example:
        >>> row_pointer(torch.tensor([0, 0, 2]), 3).tolist()
        [0, 2, 2, 3]
    """
    counts = torch.zeros(num_rows, dtype=torch.int64, device=row.device)
    counts.index_add_(0, row, torch.ones_like(row))
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def spmm(pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
    """Sparse matrix times dense matrix.

    Args:
        pattern: Of the sparse matrix, n rows and m columns.
        values: Of its entries, shape ``(E,)``.
        x: Shape ``(m, d)``.

    Returns:
        Shape ``(n, d)``; in float32 at least, as PyTorch has no sparse product in half precision everywhere.

    Example:
        >>> pattern, _ = Pattern.of(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2, 2)
        >>> spmm(pattern, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0], [10.0]])).tolist()
        [[21.0], [30.0]]
    """
    values, x = at_least_float32(values), at_least_float32(x)
    result: Tensor = _SpMM.apply(pattern, values, x)  # type: ignore[no-untyped-call]
    return result


def sddmm(pattern: Pattern, a: Tensor, b: Tensor) -> Tensor:
    """Products of rows of two dense matrices, at the entries of a pattern only.

    Args:
        pattern: n rows and m columns.
        a: Shape ``(n, d)``.
        b: Shape ``(m, d)``.

    Returns:
        ``a[i] @ b[j]`` for every entry (i, j), shape ``(E,)``; in float32 at least.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    result: Tensor = _SDDMM.apply(pattern, a, b)  # type: ignore[no-untyped-call]
    return result


def row_sums(pattern: Pattern, values: Tensor) -> Tensor:
    """Sum of the values of every row.

    Args:
        pattern: n rows.
        values: Of its entries, shape ``(E,)``.

    Returns:
        Shape ``(n,)``.
    """
    return values.new_zeros(pattern.num_rows).index_add(0, pattern.row, values)


def product(pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
    """:func:`spmm` without gradient; Args as there.

    Args:
        pattern: Of the sparse matrix, n rows and m columns.
        values: Shape ``(E,)``.
        x: Shape ``(m, d)``.
    """
    _say_nothing_of_beta()
    shape = (pattern.num_rows, pattern.num_cols)
    matrix = torch.sparse_csr_tensor(pattern.rowptr, pattern.col, values, shape, check_invariants=False)
    with torch.autocast(x.device.type, enabled=False):
        return matrix @ x


@cache
def _say_nothing_of_beta() -> None:
    """Lets torch say once, unheard, that sparse CSR tensors are in beta state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor([0, 0], torch.empty(0, dtype=torch.int64), torch.empty(0), (1, 1))


def gathered_products(pattern: Pattern, a: Tensor, b: Tensor) -> Tensor:
    """:func:`sddmm` without gradient; Args as there.

    Args:
        pattern: n rows and m columns.
        a: Shape ``(n, d)``.
        b: Shape ``(m, d)``.
    """
    num_entries, width = len(pattern.col), a.shape[1]
    out = a.new_empty(num_entries)
    step = max(1, min(num_entries, BLOCK // max(width, 1)))
    left, right = a.new_empty(2, step, width)
    for begin in range(0, num_entries, step):
        part = slice(begin, min(begin + step, num_entries))
        size = part.stop - part.start
        torch.index_select(a, 0, pattern.row[part], out=left[:size])
        torch.index_select(b, 0, pattern.col[part], out=right[:size])
        torch.sum(left[:size].mul_(right[:size]), 1, out=out[part])
    return out


class _SpMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: Pattern, values: Tensor, x: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, x if ctx.needs_input_grad[1] else None)
        return product(pattern, values, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        values, x = ctx.saved_tensors
        pattern, grad = ctx.pattern, grad.contiguous()
        to_values = gathered_products(pattern, grad, x) if ctx.needs_input_grad[1] else None
        to_x = None
        if ctx.needs_input_grad[2]:
            to_x = product(pattern.transposed, values[pattern.to_transposed], grad)
        return None, to_values, to_x


class _SDDMM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pattern: Pattern, a: Tensor, b: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(a, b)
        return gathered_products(pattern, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        pattern = ctx.pattern
        to_a = product(pattern, grad, b) if ctx.needs_input_grad[1] else None
        to_b = None
        if ctx.needs_input_grad[2]:
            to_b = product(pattern.transposed, grad[pattern.to_transposed], a)
        return None, to_a, to_b
