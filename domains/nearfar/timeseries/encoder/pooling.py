"""One vector for a series, or wider views of every step; steps that are padding or missing never count.

The windows around every step, one or a pyramid of them, are those of TS2Vec (Yue et al., AAAI 2022).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import ConfigError

Pooling: TypeAlias = Literal["max", "last", "mean", "multiscale", "none"] | int
NAMES = ("max", "last", "mean", "multiscale", "none")


def pool(z: Tensor, how: Pooling = "max", valid: Tensor | None = None) -> Tensor:
    """Pool representations over time; where no step is valid the result is zero.

    Args:
        z: Representations, shape ``(B, T, D)``.
        how: ``max``, ``mean`` or ``last`` of the valid steps; a number: maximum over the window of so many steps
            around each; ``multiscale``: those of windows of 1, 3, 5, 9, 17, ... steps that are shorter than the
            series, side by side; ``none``: as they are.
        valid: Steps that count, bool, shape ``(B, T)``.

    Returns:
        Shape ``(B, D)`` for a name in the first group, ``(B, T, D)`` for a number or ``none``, ``(B, T, S * D)`` for
        ``multiscale``.

    Raises:
        ConfigError: If there is no such pooling.

    Example:
        >>> z = torch.tensor([[[1.0], [5.0], [2.0]]])
        >>> [pool(z, how).flatten().tolist() for how in ("max", "last", 2)]
        [[5.0], [2.0], [1.0, 5.0, 5.0]]
    """
    if isinstance(how, int) and not isinstance(how, bool):
        if how < 1:
            raise ConfigError(f"pooling: a window has one step at least, got {how}")
        return _window_max(z, how, valid)
    if how == "max":
        return max_pool(z, valid)
    if how == "multiscale":
        spans = [1, *(2**p + 1 for p in range(1, z.shape[1].bit_length()) if 2**p + 1 < z.shape[1])]
        return torch.cat([_window_max(z, span, valid) for span in spans], dim=2)
    kept = z if valid is None else torch.where(valid[..., None], z, 0)
    if how == "none":
        return kept
    if how == "mean":
        count = z.shape[1] if valid is None else valid.sum(1, keepdim=True).clamp(min=1)
        return kept.sum(1) / count
    if how == "last":
        if valid is None:
            return z[:, -1]
        steps = torch.arange(z.shape[1], device=z.device)
        place = torch.where(valid, steps, 0).amax(1)
        return kept.gather(1, place[:, None, None].expand(-1, 1, z.shape[2]))[:, 0]
    raise ConfigError(f"pooling: {', '.join(NAMES)} or a number of steps expected, got {how!r}")


def max_pool(z: Tensor, valid: Tensor | None = None) -> Tensor:
    """Maximum over the valid steps; zero without any.

    Args:
        z: Representations, shape ``(B, T, D)``.
        valid: Steps that count, bool, shape ``(B, T)``.

    Returns:
        Shape ``(B, D)``.

    Example:
        >>> z = torch.tensor([[[-1.0], [5.0]], [[-2.0], [3.0]]])
        >>> max_pool(z, torch.tensor([[True, False], [False, False]])).flatten().tolist()
        [-1.0, 0.0]
    """
    if valid is None:
        return z.amax(1)
    found = torch.where(valid[..., None], z, -torch.inf).amax(1)
    return torch.where(valid.any(1, keepdim=True), found, 0)


def _window_max(z: Tensor, span: int, valid: Tensor | None) -> Tensor:
    """Maximum over the steps from t - span // 2 to t + (span - 1) // 2."""
    if span == 1 and valid is None:
        return z
    counted = z if valid is None else torch.where(valid[..., None], z, -torch.inf)
    padded = F.pad(counted.mT, (span // 2, (span - 1) // 2), value=-torch.inf)
    found = F.max_pool1d(padded, span, stride=1).mT
    return torch.where(found == -torch.inf, 0, found)
