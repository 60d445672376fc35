"""Level and scale of a series, for one series or for the steps up to each one; missing values do not count."""

from __future__ import annotations

import torch
from torch import Tensor

# Inputs are standardised with their training part. What moves less than a hundredth of that is noise or the rounding
# of a sensor, and is not amplified any further.
LOWEST_SCALE = 0.01


def series_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every series and channel.

    Args:
        x: May have NaN, shape ``(B, T, F)``.

    Returns:
        Level and scale, shape ``(B, 1, F)`` each; 0 and 1 where nothing is known.

    Example:
        >>> level, scale = series_statistics(torch.tensor([[[1.0], [torch.nan], [3.0]]]))
        >>> level.item(), scale.item()
        (2.0, 1.0)
    """
    known = ~x.isnan()
    count = known.sum(1, keepdim=True)
    filled = torch.where(known, x, 0)
    level = filled.sum(1, keepdim=True) / count.clamp(min=1)
    variance = torch.where(known, filled - level, 0).square().sum(1, keepdim=True) / count.clamp(min=1)
    return level, _scale(variance, count)


def trailing_statistics(x: Tensor, trail: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the last steps up to and including each one; fewer at the beginning.

    Args:
        x: May have NaN, shape ``(B, T, F)``.
        trail: Steps.

    Returns:
        Level and scale, shape ``(B, T, F)`` each; 0 and 1 where nothing is known.

    Example:
        >>> level, scale = trailing_statistics(torch.tensor([[[1.0], [3.0], [7.0]]]), trail=2)
        >>> level.flatten().tolist(), scale.flatten().tolist()
        ([1.0, 2.0, 5.0], [0.009999999776482582, 1.0, 2.0])
    """
    known = ~x.isnan()
    # Cumulative sums of numbers far from zero lose the variance; the first known value is near all of them, and no
    # step before it needs one. It is a constant: the result does not depend on it.
    first = known.int().argmax(1, keepdim=True)
    offset = x.detach().gather(1, first).nan_to_num().double()
    filled = torch.where(known, x.double() - offset, 0)
    count = _windowed(known.double(), trail)
    total, squares = _windowed(filled, trail), _windowed(filled.square(), trail)
    mean = total / count.clamp(min=1)
    variance = squares / count.clamp(min=1) - mean.square()
    level = torch.where(count > 0, mean + offset, 0)
    return level.to(x.dtype), _scale(variance, count).to(x.dtype)


def _windowed(values: Tensor, trail: int) -> Tensor:
    sums = values.cumsum(1)
    if trail >= values.shape[1]:
        return sums
    return torch.cat([sums[:, :trail], sums[:, trail:] - sums[:, :-trail]], dim=1)


def _scale(variance: Tensor, count: Tensor) -> Tensor:
    # Clamped before the root, whose slope at zero is infinite.
    return torch.where(count > 0, variance.clamp(min=LOWEST_SCALE**2).sqrt(), 1)
