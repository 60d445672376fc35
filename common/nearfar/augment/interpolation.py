"""Linear interpolation along the second dimension at one index per row and step."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(x: Tensor, index: Tensor) -> Tensor:
    r"""Rows read at real-valued places, by two gathers.

    .. math:: y_{bs} = (1 - w)\, x_{b,\lfloor u \rfloor} + w\, x_{b,\lceil u \rceil}, \qquad
              u = U_{bs},\; w = u - \lfloor u \rfloor

    At whole numbers this is exactly ``x``, and no neighbour takes part, not even as 0 times NaN.

    Args:
        x: Values, shape ``(B, T, F)``.
        index: Places U, shape ``(B, S)``, floating point or int64; beyond the ends, the end is read.

    Returns:
        Shape ``(B, S, F)``; differentiable in ``x`` and in a floating ``index``.

    Example:
        >>> x = torch.tensor([[[0.0], [10.0], [20.0]]])
        >>> interpolate(x, torch.tensor([[2.0, 0.5, 0.0]])).flatten().tolist()
        [20.0, 5.0, 0.0]
    """
    num_rows, num_steps, width = x.shape
    flat = x.reshape(num_rows * num_steps, width)
    start = torch.arange(num_rows, device=x.device)[:, None] * num_steps

    def cells(places: Tensor) -> Tensor:
        inside = places.clamp(0, num_steps - 1) + start
        return flat.index_select(0, inside.flatten()).view(num_rows, -1, width)

    if not index.is_floating_point():
        return cells(index)
    low = index.floor()
    weight = (index - low).to(x.dtype)[..., None]
    # In place: new memory costs more than the arithmetic.
    return cells(low.long()).lerp_(cells(index.ceil().long()), weight)
