"""What the objectives on two views of one batch accept, and the precision they compute in."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_features


def check_views(min_rows: int = 1, **views: Tensor) -> None:
    """Raise ValueError unless all are finite floating point matrices of one shape and dtype.

    Args:
        min_rows: Rows the arithmetic needs.
        **views: Each of shape ``(N, d)``, by the name of its argument; the first one sets shape and dtype.

    Raises:
        ValueError: If one is not as expected.

    Example:
        >>> check_views(a=torch.ones(4, 2), b=torch.ones(4, 2))
        >>> check_views(a=torch.ones(4, 2), b=torch.ones(3, 2))
        Traceback (most recent call last):
        ValueError: b: shape (4, 2) expected, got (3, 2)
    """
    (first, x), *_ = views.items()
    check_features(first, x, shape="(N, d)")
    if x.dim() != 2 or len(x) < min_rows:
        raise ValueError(f"{first}: (N, d) with N at least {min_rows} expected, got shape {tuple(x.shape)}")
    for name, other in views.items():
        check_features(name, other, like=x, shape="(N, d)")
        if other.shape != x.shape:
            raise ValueError(f"{name}: shape {tuple(x.shape)} expected, got {tuple(other.shape)}")


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, anything wider as it is.

    Args:
        x: Shape ``(..., d)``.

    Returns:
        Same shape as ``x``.

    Example:
        >>> at_least_float32(torch.ones(2, 2).bfloat16()).dtype
        torch.float32
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
