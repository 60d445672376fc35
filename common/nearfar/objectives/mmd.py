r"""How far apart two sets of vectors are: maximum mean discrepancy (Gretton et al., JMLR 2012, eq. 3 and 5).

.. math:: d^2 = \frac{1}{B^2} \sum_{i,j} k(x_i, x_j) + k(v_i, v_j) - 2 k(x_i, v_j), \qquad
          k(a, b) = \sum_{m=0}^{4} \exp\Bigl(-\frac{|a - b|^2}{w\, 2^{m - 2}}\Bigr)

w is the mean squared distance of all 2 B vectors from each other, taken as a constant. With the linear kernel it is
the squared difference of the means, which is what eq. 8 of AutoTCL (Zheng et al., ICLR 2024) prints; its published
program computes the sum of five Gaussian kernels, in [0, 10].
Of more than about a thousand rows the kernel is summed a few rows at a time, and again in the backward pass.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nearfar.objectives import row_tiles

Divergence: TypeAlias = Literal["mmd", "mmd_unbiased", "mean"]
NUM_KERNELS = 5
CACHED = 2**19  # numbers of one tile's table


def divergence(x: Tensor, v: Tensor, kind: Divergence = "mmd") -> Tensor:
    """Distance of two samples, a differentiable scalar.

    Args:
        x: Shape ``(B, D)``.
        v: Shape ``(B, D)``.
        kind: ``"mmd"``, biased (vectors are compared with themselves, never negative); ``"mmd_unbiased"``, of mean 0
            for samples of one distribution, needs B > 1; ``"mean"``, the squared difference of the means.

    Raises:
        ValueError: If the shapes differ, or ``mmd_unbiased`` is given a single row.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> divergence(x, x).item(), divergence(x, x + 2, "mean").item()
        (0.0, 4.0)
    """
    if x.shape != v.shape or x.dim() != 2:
        raise ValueError(f"v: shape {tuple(x.shape)} as x expected, (B, D), got {tuple(v.shape)}")
    if kind == "mean":
        return (x.mean(0) - v.mean(0)).square().sum()
    rows = len(x)
    if kind == "mmd_unbiased" and rows < 2:
        raise ValueError("mmd_unbiased: at least 2 rows expected, got 1; take mmd")
    both = torch.cat([x, v])
    if len(both) ** 2 > row_tiles.NUMBERS:
        return _by_rows(both, kind)
    # By differences, not by products: equal vectors are at distance 0 exactly, and the matrix is small.
    squared = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()
    count = 2 * rows
    width = squared.detach().sum() / max(count * count - count, 1)
    kernel = _kernel(squared, width)
    within, across = kernel[:rows, :rows] + kernel[rows:, rows:], kernel[:rows, rows:]
    if kind == "mmd":
        return (within - across - across.mT).mean()
    off = (within.sum() - within.diagonal().sum()) / (rows * (rows - 1))
    return off - 2 * across.mean()


def _kernel(squared: Tensor, width: Tensor) -> Tensor:
    width = width.clamp(min=torch.finfo(width.dtype).tiny)
    # exp(-d / w_m) for w_m = w / 4 times 1, 2, 4, 8, 16: the widest, and the square of each for the next.
    kernel = term = (-squared / (width * 2.0 ** (NUM_KERNELS - 3))).exp()
    for _ in range(NUM_KERNELS - 1):
        term = term * term
        kernel = kernel + term
    return kernel


def _by_rows(both: Tensor, kind: Divergence) -> Tensor:
    """The same from sums of the kernel's rows, shape ``(B, 3)``: of x over x, of v over v, of x over v."""
    rows = len(both) // 2
    centred = both - both.detach().mean(0)
    width = 2 * centred.detach().square().sum() / (len(both) - 1)  # the mean over all pairs, by the variance
    x, v = centred[:rows], centred[rows:]

    def over(part: Tensor, keys: Tensor) -> Tensor:
        # By products: differences of so many pairs take a GPU a hundred times as long.
        squared = part.square().sum(1, keepdim=True) + keys.square().sum(1) - 2 * part @ keys.mT
        return _kernel(squared.clamp(min=0), width).sum(1)

    def sums(of_x: Tensor, of_v: Tensor) -> Tensor:
        return torch.stack([over(of_x, x), over(of_v, v), over(of_x, v)], 1)

    # Nothing but elementwise work on the table: a processor is fastest while its cache holds a tile.
    tile = max(1, CACHED // rows) if both.device.type == "cpu" else None
    of_x, of_v, across = row_tiles.by_row_tiles(sums, x, v, width=3 * rows, tile=tile).unbind(1)
    if kind == "mmd":
        return (of_x + of_v - 2 * across).mean() / rows
    within = (of_x + of_v).mean() - 2 * NUM_KERNELS  # a row with itself
    return within / (rows - 1) - 2 * across.mean() / rows
