"""Two overlapping crops of every series (TS2Vec, Yue et al., AAAI 2022, section 3.2).

Differs from the official code: every row has its own crops and overlap (there, one geometry a batch, moved
about per row), and the shape stays: crops begin at the first valid step, with zeros behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment.interpolation import interpolate
from nearfar.augment.series.batch import Batch
from nearfar.augment.series.view import ViewParams


@dataclass(frozen=True, eq=False)
class CropPair:
    """Two views of a batch that show the same steps in part.

    Args:
        first: View that ends with the overlap.
        second: View that begins with the overlap.
        first_valid: Steps of the first view that are data, shape ``(B, T)``, bool.
        second_valid: Steps of the second view that are data, shape ``(B, T)``, bool.
        first_start: Step of the first view at which the overlap begins, shape ``(B,)``, int64.
        second_start: Step of the second view at which the overlap begins, shape ``(B,)``, int64.
        length: Steps of the overlap, shape ``(B,)``, int64.
    """

    first: ViewParams
    second: ViewParams
    first_valid: Tensor
    second_valid: Tensor
    first_start: Tensor
    second_start: Tensor
    length: Tensor

    def overlap(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What both views have in common, cut out of something computed for every step of them.

        Args:
            first: For example the representation of the first view, shape ``(B, T, D)``.
            second: That of the second view, shape ``(B, T, D)``.

        Returns:
            Both, with the overlap moved to the front and zeros behind, shape ``(B, T, D)``, and the mask
            of the overlap, shape ``(B, T)``, bool.
        """
        step = torch.arange(first.shape[1], device=first.device).expand(first.shape[:2])
        inside = step < self.length[:, None]
        parts = []
        for states, start in ((first, self.first_start), (second, self.second_start)):
            moved = interpolate(states, start[:, None] + step)
            parts.append(moved.masked_fill(~inside[..., None], 0))
        return parts[0], parts[1], inside


@dataclass(frozen=True)
class OverlappingCrops:
    """Draws for every row an overlap of a uniform length at a uniform place, and what either crop adds.

    The first crop begins at a step uniform before the overlap and ends with it; the second begins with
    the overlap and ends at a step uniform behind it.

    Args:
        min_length: Fewest steps of the overlap, at least 1; shorter rows overlap completely.

    Example:
        >>> x = torch.arange(6.0).reshape(1, 6, 1)
        >>> pair = OverlappingCrops()(x, torch.Generator().manual_seed(0))
        >>> one, two, mask = pair.overlap(pair.first.apply(x), pair.second.apply(x))
        >>> torch.equal(one, two), bool(mask.sum() >= 2)
        (True, True)
    """

    min_length: int = 2

    def __post_init__(self) -> None:
        if self.min_length < 1:
            raise ValueError(f"min_length: at least 1 expected, got {self.min_length}")

    def __call__(self, x: Tensor, generator: torch.Generator, *, valid: Tensor | None = None) -> CropPair:
        """Draw two crops of every row.

        Args:
            x: Series, shape ``(B, T, F)``, float32 or float64.
            generator: Source of every draw.
            valid: Steps that are data, shape ``(B, T)``, bool, one contiguous run a row.
        """
        batch = Batch.of(x, generator, valid)
        shortest = batch.length.clamp(max=self.min_length)
        size = shortest + batch.integers(batch.length - shortest + 1)
        left = batch.integers(batch.length - size + 1)
        right = left + size
        begin = batch.integers(left + 1)
        end = right + batch.integers(batch.length - right + 1)
        first, first_valid = _crop(batch, begin, right)
        second, second_valid = _crop(batch, left, end)
        # A batch counts a row without valid steps as one step long; its views have nothing in common.
        if valid is not None:
            size = size * valid.any(1, keepdim=True)
        return CropPair(
            first=first,
            second=second,
            first_valid=first_valid,
            second_valid=second_valid,
            first_start=(batch.first + left - begin)[:, 0],
            second_start=batch.first[:, 0],
            length=size[:, 0],
        )


def _crop(batch: Batch, begin: Tensor, end: Tensor) -> tuple[ViewParams, Tensor]:
    """Steps from ``begin`` to before ``end``, moved to the first valid step; and where they are now."""
    inside = (batch.step >= 0) & (batch.step < end - begin)
    # Behind the crop its last step is read, times zero: padding may hold NaN.
    index = batch.source(torch.minimum(batch.step + begin, end - 1))
    gain = inside[..., None].to(batch.x.dtype)
    if batch.valid is not None:
        index = torch.where(batch.valid, index, batch.step + batch.first)
        gain = torch.where(batch.valid[..., None], gain, 1.0)
        inside = inside & batch.valid
    return ViewParams(index=index, gain=gain), inside
