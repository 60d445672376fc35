r"""Sums over a product of three: for every row of each, over all pairs of rows of the other two, from one pass.

.. math:: s_{iab} = \sum_l x_{il} y_{al} z_{bl}, \qquad
          \log \sum_{ab} e^{s_{iab}}, \quad \log \sum_{ib} e^{s_{iab}}, \quad \log \sum_{ia} e^{s_{iab}}

The products are made a tile at a time, and once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nearfar.objectives import row_tiles
from nearfar.objectives.tiled import once_differentiable

Triple: TypeAlias = tuple[Tensor, Tensor, Tensor]
_OTHERS = ((1, 2), (0, 2), (0, 1))  # dimensions of a tile that are summed for each of the three


def log_sums_over_pairs(x: Tensor, y: Tensor, z: Tensor) -> Triple:
    """Log-sum-exp of all products that a row takes part in, in the memory of a tile of ``row_tiles.NUMBERS``.

    Args:
        x: Shape ``(N, d)``, at least float32.
        y: Shape ``(M, d)``.
        z: Shape ``(L, d)``.

    Returns:
        Shapes ``(N,)``, ``(M,)`` and ``(L,)``, with gradients but no second derivatives.

    Example:
        >>> x, y, z = torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(4, 1)
        >>> [round(log_sum[0].exp().item()) for log_sum in log_sums_over_pairs(x, y, z)]
        [12, 8, 6]
    """
    sums: Triple = _OverPairs.apply(x, y, z)  # type: ignore[no-untyped-call]
    return sums


class _OverPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> Triple:
        x, y, z = (factor.new_full(factor.shape[:1], -torch.inf) for factor in factors)
        for parts, products in _tiles(*factors):
            for total, part, others in zip((x, y, z), parts, _OTHERS, strict=True):
                total[part] = torch.logaddexp(total[part], products.logsumexp(others))
        ctx.save_for_backward(*factors, x, y, z)
        return x, y, z

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, ...]:
        factors, sums = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        # backward() may be called under autocast.
        with torch.no_grad(), torch.autocast(upstream[0].device.type, enabled=False):
            grads = [torch.zeros_like(factor) for factor in factors]
            for parts, products in _tiles(*factors):
                weight = torch.zeros_like(products)
                for total, grad, part, others in zip(sums, upstream, parts, _OTHERS, strict=True):
                    shape = [1 if dim in others else -1 for dim in range(3)]
                    softmax = (products - total[part].reshape(shape)).exp_()
                    weight.addcmul_(softmax, grad[part].reshape(shape))
                x, y, z = (factor[part] for factor, part in zip(factors, parts, strict=True))
                over_z = weight @ z
                grads[0][parts[0]] += (over_z * y).sum(1)
                grads[1][parts[1]] += (over_z * x[:, None]).sum(0)
                grads[2].addmm_(weight.flatten(0, 1).mT, (x[:, None] * y).flatten(0, 1))
        return tuple(once_differentiable(grad, *factors, *upstream) for grad in grads)


def _tiles(x: Tensor, y: Tensor, z: Tensor) -> Iterator[tuple[tuple[slice, slice, slice], Tensor]]:
    """Places among the rows of each, and products of that tile; only rows of x and of y are cut."""
    numbers = sum(z.shape)  # of one pair of rows of x and y
    height = max(1, row_tiles.NUMBERS // (numbers * len(y)))
    width = min(len(y), max(1, row_tiles.NUMBERS // numbers))
    for i in range(0, len(x), height):
        for a in range(0, len(y), width):
            parts = slice(i, i + height), slice(a, a + width), slice(None)
            yield parts, (x[parts[0], None] * y[parts[1]]) @ z.mT
