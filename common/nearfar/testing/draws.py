"""Random rows for tests, the same in every run."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers.

    Args:
        *shape: Of the result.
        seed: Of the draw.
        dtype: Floating point.

    Example:
        >>> draw(2, 3, seed=1).shape
        torch.Size([2, 3])
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def two_views(num: int = 6, dim: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rows and the same rows with noise of their own size added, which ask for gradients.

    Args:
        num: Rows, N; also the seed.
        dim: Features, d.
        dtype: Of the result; drawn in float64 and rounded to it.

    Returns:
        Two leaves of shape ``(N, d)``.

    Example:
        >>> first, second = two_views()
        >>> first.shape, second.requires_grad
        (torch.Size([6, 4]), True)
    """
    rng = torch.Generator().manual_seed(num)
    first = torch.randn(num, dim, generator=rng, dtype=torch.float64)
    second = first + torch.randn(num, dim, generator=rng, dtype=torch.float64)
    return first.to(dtype).requires_grad_(), second.to(dtype).requires_grad_()
