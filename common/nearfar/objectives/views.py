"""What the objectives on two views of one batch accept, and the precision they compute in."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_features, check_matrix


def check_views(min_rows: int = 1, dim: int | None = None, **views: Tensor) -> None:
    """Raise ValueError unless all are finite floating point matrices of one shape and dtype.

    Args:
        min_rows: Rows the arithmetic needs.
        dim: Features the arithmetic was built for; ``None`` for any number.
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
    check_matrix(first, x, min_rows=min_rows)
    if dim is not None and x.shape[1] != dim:
        raise ValueError(f"{first}: {dim} features (dim) expected, got shape {tuple(x.shape)}")
    for name, other in views.items():
        check_features(name, other, like=x, shape="(N, d)")
        if other.shape != x.shape:
            raise ValueError(f"{name}: shape {tuple(x.shape)} expected, got {tuple(other.shape)}")


def check_more(name: str, more: Tensor, like: Tensor, *, shape: str = "(K, N, d)", least: int = 0) -> None:
    """Raise ValueError unless it holds any number of matrices like this one.

    Args:
        name: What to call it.
        more: The argument; wanted of shape ``(K, N, d)``.
        like: What each is to be like, shape ``(N, d)``, checked.
        shape: How to describe the wanted shape.
        least: Fewest allowed.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> check_more("more", torch.ones(2, 4, 3), torch.ones(4, 3))
        >>> check_more("more", torch.ones(0, 4, 3), torch.ones(4, 3), least=1)
        Traceback (most recent call last):
        ValueError: more: (K, 4, 3) with K at least 1 expected, got shape (0, 4, 3)
    """
    check_features(name, more, like=like, shape=shape)
    if more.dim() != 3 or len(more) < least or more.shape[1:] != like.shape:
        letter = shape[1]
        wanted = f"({letter}, {like.shape[0]}, {like.shape[1]}) with {letter} at least {least}"
        raise ValueError(f"{name}: {wanted} expected, got shape {tuple(more.shape)}")


def check_wrong(rows: Tensor, wrong: Tensor) -> None:
    """Raise ValueError unless ``wrong`` holds at least one negative for every row.

    Args:
        rows: Shape ``(N, d)``, checked.
        wrong: The argument; wanted of shape ``(N, R, d)``.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> check_wrong(torch.ones(4, 3), torch.ones(4, 2, 3))
    """
    check_features("wrong", wrong, like=rows, shape="(N, R, d)")
    if wrong.dim() != 3 or len(wrong) != len(rows) or wrong.shape[1] == 0:
        raise ValueError(
            f"wrong: ({len(rows)}, R, {rows.shape[1]}) with R > 0 expected, got shape {tuple(wrong.shape)}"
        )


def check_teacher(student: Tensor, **views: Tensor) -> None:
    """Raise ValueError unless a teacher's views are matrices of one shape and show as many rows as the student's.

    Args:
        student: A view of the student, shape ``(N, d)``, checked.
        **views: The teacher's, wanted of shape ``(N, d')``, by the name of their argument.

    Raises:
        ValueError: If they do not fit.

    Example:
        >>> check_teacher(torch.ones(4, 3), target_first=torch.ones(4, 8), target_second=torch.ones(4, 8))
    """
    check_views(1, None, **views)
    name, view = next(iter(views.items()))
    if len(view) != len(student):
        raise ValueError(f"{name}: {len(student)} rows expected, got {len(view)}")


def stacked_views(first: Tensor, second: Tensor, more: Tensor | None, min_rows: int = 1) -> Tensor:
    """All views of the same rows, checked.

    Args:
        first: First view, shape ``(N, d)``.
        second: Second view, same shape as ``first``.
        more: Further ones, shape ``(K, N, d)``, or none.
        min_rows: Rows the arithmetic needs.

    Returns:
        Shape ``(2 + K, N, d)``.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> stacked_views(torch.ones(4, 3), torch.ones(4, 3), torch.ones(2, 4, 3)).shape
        torch.Size([4, 4, 3])
    """
    check_views(min_rows, first=first, second=second)
    views = torch.stack([first, second])
    if more is None:
        return views
    check_more("more", more, first)
    return torch.cat([views, more])


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
