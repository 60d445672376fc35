"""Operations that set steps or features to zero; the gain is 0 or 1.

In the terms of AutoTCL (Zheng et al., ICLR 2024, section 3) the mask h, with g = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


@dataclass(frozen=True)
class _Share(SeriesOp):
    ratio: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)


@dataclass(frozen=True)
class Cutout(_Share):
    """Zeros in one window of ``floor(ratio * T)`` steps, uniformly placed.

    Args:
        ratio: Share of the steps removed, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.ones(1, 10, 1)
        >>> Cutout(ratio=0.35)(x, torch.Generator().manual_seed(0)).apply(x).sum().item()
        7.0
    """

    ratio: Strength = 0.1

    def _draw(self, batch: Batch) -> ViewParams:
        removed = batch.window(batch.size("ratio", self.ratio))
        return ViewParams(gain=(~removed)[..., None].to(batch.x.dtype))


@dataclass(frozen=True)
class Subsequence(SeriesOp):
    """Zeros outside one window, its length uniform on {min_length, ..., T}, uniformly placed.

    Args:
        min_length: At least 1; rows shorter than that stay whole.

    Example:
        >>> x = torch.ones(1, 3, 1)
        >>> Subsequence(min_length=3)(x, torch.Generator()).apply(x).flatten().tolist()
        [1.0, 1.0, 1.0]
    """

    min_length: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_length < 1:
            raise ValueError(f"min_length: at least 1 expected, got {self.min_length}")

    def _draw(self, batch: Batch) -> ViewParams:
        shortest = batch.length.clamp(max=self.min_length)
        kept = batch.window(shortest + batch.integers(batch.length - shortest + 1))
        return ViewParams(gain=kept[..., None].to(batch.x.dtype))


@dataclass(frozen=True)
class TimeMask(_Share):
    """Zeros at every step independently with probability ``ratio``; no rescaling.

    Args:
        ratio: Probability, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.ones(1, 3, 1)
        >>> TimeMask(ratio=1.0)(x, torch.Generator()).apply(x).flatten().tolist()
        [0.0, 0.0, 0.0]
    """

    ratio: Strength = 0.1

    def _draw(self, batch: Batch) -> ViewParams:
        kept = batch.uniform(batch.x.shape[1], 1) >= batch.strength("ratio", self.ratio, 3)
        return ViewParams(gain=kept.to(batch.x.dtype))


@dataclass(frozen=True)
class ChannelDropout(_Share):
    """Zeros in every feature independently with probability ``ratio``, except that one always stays.

    Where all F features of a sample would go, one of them, uniformly drawn, is kept: a feature is lost
    with probability ``ratio - ratio^F / F``, and a univariate series never changes.

    Args:
        ratio: Probability, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.ones(1, 2, 5)
        >>> ChannelDropout(ratio=1.0)(x, torch.Generator().manual_seed(0)).apply(x).sum(2).tolist()
        [[1.0, 1.0]]
    """

    ratio: Strength = 0.1

    def _draw(self, batch: Batch) -> ViewParams:
        draw = batch.uniform(1, batch.x.shape[2])
        last = torch.arange(draw.shape[2], device=draw.device) == draw.argmax(2, keepdim=True)
        return ViewParams(gain=((draw >= batch.strength("ratio", self.ratio, 3)) | last).to(batch.x.dtype))
