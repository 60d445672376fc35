"""Random tensors for augmentations: drawn in float32 where the generator lives, then moved to the input.

So one seed gives the same view in either precision, and with a generator of the CPU on every device. Nobody waits for
the move: what the device has to do before it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nearfar.runtime import to_device


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers uniform on [0, 1) of a given shape, with the device and floating dtype of ``like``.

    Args:
        shape: Shape of the result.
        like: Shape ``(...,)``; one that is not floating point gives float32.
        generator: Source of the draw.

    Example:
        >>> x = torch.zeros(2, dtype=torch.float64)
        >>> draw = uniform((3,), x, torch.Generator().manual_seed(0))
        >>> draw.dtype, bool((0 <= draw).all() and (draw < 1).all())
        (torch.float64, True)
    """
    return _moved(torch.rand(tuple(shape), generator=generator, device=generator.device), like)


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of a given shape, with the device and floating dtype of ``like``.

    Args:
        shape: Shape of the result.
        like: Shape ``(...,)``; one that is not floating point gives float32.
        generator: Source of the draw.

    Example:
        >>> normal((3, 2), torch.zeros(1), torch.Generator().manual_seed(0)).shape
        torch.Size([3, 2])
    """
    return _moved(torch.randn(tuple(shape), generator=generator, device=generator.device), like)


def beta(alpha: float | Tensor, like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers from Beta(alpha, alpha), one a sample, with the device and floating dtype of ``like``.

    Args:
        alpha: Positive number, or shape ``(B,)``.
        like: Batch, shape ``(B, ...)``.
        generator: Source of the draw.

    Returns:
        Shape ``(B,)``.

    Example:
        >>> share = beta(0.2, torch.zeros(5, 3), torch.Generator().manual_seed(0))
        >>> share.shape, bool((0 <= share).all() and (share <= 1).all())
        (torch.Size([5]), True)
    """
    shape = torch.as_tensor(alpha, dtype=torch.float32, device=generator.device).detach().expand(len(like))
    # A gamma of small shape underflows; two zeros must not become 0 / 0.
    tiny = torch.finfo(torch.float32).tiny
    first, second = (torch._standard_gamma(shape, generator=generator).clamp(min=tiny) for _ in range(2))
    return _moved(first / (first + second), like)


def integers(high: Tensor, generator: torch.Generator) -> Tensor:
    """Integers uniform on {0, ..., high - 1}, one for each entry of ``high``, below 2^24.

    Args:
        high: Number of values of each draw, at least 1, int64, shape ``(...,)``.
        generator: Source of the draw.

    Returns:
        int64, same shape and device as ``high``.

    Example:
        >>> integers(torch.ones(3, dtype=torch.int64), torch.Generator().manual_seed(0)).tolist()
        [0, 0, 0]
    """
    return torch.minimum((uniform(high.shape, high, generator) * high).long(), high - 1)


def _moved(draw: Tensor, like: Tensor) -> Tensor:
    moved: Tensor = to_device(draw, like.device)
    return moved.to(like.dtype) if like.is_floating_point() else moved
