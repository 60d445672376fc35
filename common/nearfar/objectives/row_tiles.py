"""Losses whose rows are independent, computed a few rows at a time, so that an N x M table is never held.

For what a log-sum-exp cannot say: softmaxes of distances, filters of every pair, hinges. The loss of a row is written
densely; its tables exist for one tile of rows at a time, and once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nearfar.checks import check_counts

NUMBERS = 2**22  # of one tile's table


def by_row_tiles(
    loss_of_rows: Callable[..., Tensor], *by_row: Tensor, width: int, tile: int | None = None
) -> Tensor:
    """One value a row, in O(N + tile * width) memory, gradients of any order included.

    Args:
        loss_of_rows: Given some rows of every tensor in ``by_row``, their values, shape ``(rows,)`` or
            ``(rows, ...)``. It is called again in the backward pass, so it must not draw random numbers. What it
            takes from elsewhere (keys) receives its gradient, too.
        *by_row: What is cut into tiles, shape ``(N, ...)`` each.
        width: Numbers a row needs in between, that of keys times what is kept for each.
        tile: Rows at a time; by default as many as make ``NUMBERS`` numbers.

    Returns:
        Shape ``(N,)`` or ``(N, ...)``.

    Raises:
        ValueError: If ``tile`` is below 1.

    Example:
        >>> x = torch.eye(3)
        >>> by_row_tiles(lambda rows: (rows @ x.T).logsumexp(1), x, width=3, tile=2).shape
        torch.Size([3])
    """
    if tile is not None:
        check_counts(tile=tile)
    num_rows = len(by_row[0])
    size = max(1, NUMBERS // max(width, 1)) if tile is None else tile
    if num_rows <= size:
        return loss_of_rows(*by_row)
    again = torch.is_grad_enabled()
    found = []
    for start in range(0, num_rows, size):
        parts = [x[start : start + size] for x in by_row]
        found.append(
            checkpoint(loss_of_rows, *parts, use_reentrant=False, preserve_rng_state=False)
            if again
            else loss_of_rows(*parts)
        )
    return torch.cat(found)
