"""Operations on the time axis: index maps that never leave the valid steps of a row.

Window slicing and warping follow Le Guennec et al. (2016, "Data augmentation for time series classification
using convolutional neural networks"), permutation and time warping Um et al. (ICMI 2017, "Data augmentation of
wearable sensor data").
Differs from the papers: starts of windows are real-valued, and warped speeds are piecewise constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.augment.interpolation import interpolate
from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength
from nearfar.runtime import to_device


@dataclass(frozen=True)
class WindowSlice(SeriesOp):
    """A window stretched to the full length: ``U_k = s + ratio k``, s uniform.

    Args:
        ratio: Width of the window as a share of the series, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.arange(5.0).reshape(1, 5, 1)
        >>> view = WindowSlice(ratio=0.5)(x, torch.Generator().manual_seed(0)).apply(x)
        >>> torch.allclose(view.diff(dim=1), torch.tensor(0.5))  # half the speed
        True
    """

    ratio: Strength = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)

    def _draw(self, batch: Batch) -> ViewParams:
        ratio = batch.strength("ratio", self.ratio, 2)
        start = batch.uniform(1) * (1 - ratio) * (batch.length - 1)
        return ViewParams(index=batch.source(start + batch.step.to(batch.x.dtype) * ratio))


@dataclass(frozen=True)
class WindowWarp(SeriesOp):
    """A window played at another speed, then the whole brought back to the old length.

    Args:
        ratio: Width of the window as a share of the series, in [0, 1]; a number or shape ``(B,)``.
        speeds: Speeds to choose from for each sample, all positive.

    Example:
        >>> x = torch.arange(5.0).reshape(1, 5, 1)
        >>> view = WindowWarp(ratio=1.0)(x, torch.Generator())  # all of it: the old length undoes the speed
        >>> view.apply(x).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    ratio: Strength = 0.3
    speeds: tuple[float, ...] = (0.5, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)
        if not self.speeds or not all(speed > 0 for speed in self.speeds):
            raise ValueError(f"speeds: positive numbers expected, got {self.speeds}")

    def _draw(self, batch: Batch) -> ViewParams:
        end = (batch.length - 1).to(batch.x.dtype)
        width = batch.strength("ratio", self.ratio, 2) * end
        start = batch.uniform(1) * (end - width)
        choice = batch.integers(torch.full_like(batch.length, len(self.speeds)))
        speed = to_device(torch.tensor(self.speeds, dtype=batch.x.dtype), batch.x.device)[choice]
        played = width / speed
        # Time on the warped axis, whose length is brought back to that of the row.
        time = batch.step * ((end - width + played) / end.clamp(min=1))
        inside = (time - start).clamp(min=0)
        inside = torch.minimum(inside, played)
        return ViewParams(index=batch.source(time + inside * (speed - 1)))


@dataclass(frozen=True)
class TimeWarp(SeriesOp):
    """Time that runs at changing speed, forwards; both ends stay where they are.

    The series is played in ``num_changes + 1`` pieces of equal time; their speeds are log-uniform on an
    interval of ratio ``max_ratio``, and the map is linear in each piece.

    Args:
        num_changes: Changes of speed, at least 0.
        max_ratio: Largest ratio of two speeds, at least 1; a number or shape ``(B,)``.

    Example:
        >>> x = torch.arange(5.0).reshape(1, 5, 1)
        >>> view = TimeWarp()(x, torch.Generator().manual_seed(0)).apply(x).flatten()
        >>> view[0].item(), view[-1].item(), bool((view.diff() > 0).all())
        (0.0, 4.0, True)
    """

    num_changes: int = 100
    max_ratio: Strength = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("max_ratio", self.max_ratio, 1, math.inf)
        if self.num_changes < 0:
            raise ValueError(f"num_changes: at least 0 expected, got {self.num_changes}")

    def _draw(self, batch: Batch) -> ViewParams:
        pieces, end = self.num_changes + 1, (batch.length - 1).to(batch.x.dtype)
        speed = batch.strength("max_ratio", self.max_ratio, 2) ** batch.uniform(pieces)
        reached = F.pad(speed.cumsum(1), (1, 0))
        place = batch.step * (pieces / end.clamp(min=1))
        warped = interpolate((reached / reached[:, -1:] * end)[..., None], place)[..., 0]
        return ViewParams(index=batch.source(warped))


@dataclass(frozen=True)
class Permutation(SeriesOp):
    """The series cut into segments that change places.

    The number of segments is uniform on {2, ..., max_segments}, the cuts are uniform among the places
    between steps, and the order is uniform among all orders (so it may be the old one).

    Args:
        max_segments: At least 2; rows with fewer steps than segments are cut at every place.

    Example:
        >>> x = torch.arange(6.0).reshape(1, 6, 1)
        >>> Permutation()(x, torch.Generator().manual_seed(0)).apply(x).flatten().sort().values.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """

    max_segments: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_segments < 2:
            raise ValueError(f"max_segments: at least 2 expected, got {self.max_segments}")

    def _draw(self, batch: Batch) -> ViewParams:
        start = self._starts(batch)
        size = torch.cat([start[:, 1:], batch.length], 1) - start
        order = batch.uniform(start.shape[1]).argsort(1)
        end = size.gather(1, order).cumsum(1)
        slot = torch.searchsorted(end, batch.step.contiguous(), right=True).clamp(max=end.shape[1] - 1)
        # Where the segment in this slot came from, less where it starts now.
        shift = (start.gather(1, order) - (end - size.gather(1, order))).gather(1, slot)
        return ViewParams(index=batch.source(batch.step + shift))

    def _starts(self, batch: Batch) -> Tensor:
        """First step of every segment, ascending, shape ``(B, S)``; surplus segments are empty, at the end."""
        num_cuts = min(self.max_segments - 1, batch.x.shape[1])
        num_segments = 2 + batch.integers(torch.full_like(batch.length, self.max_segments - 1))
        possible = (batch.step > 0) & (batch.step < batch.length)
        draw = batch.uniform(batch.x.shape[1]).masked_fill(~possible, -1.0)
        chosen, place = draw.topk(num_cuts, dim=1)
        used = (torch.arange(num_cuts, device=place.device) < num_segments - 1) & (chosen >= 0)
        cuts = torch.where(used, batch.step.gather(1, place), batch.length).sort(1).values
        return F.pad(cuts, (1, 0))


@dataclass(frozen=True)
class TimeShift(SeriesOp):
    """The series moved along by whole steps, what leaves one end coming in at the other.

    Args:
        ratio: Longest shift, as a share of the series, in either direction, in [0, 1]; the shift is
            uniform on the whole numbers; a number or shape ``(B,)``.

    Example:
        >>> x = torch.arange(8.0).reshape(1, 8, 1)
        >>> moved = TimeShift(ratio=0.5)(x, torch.Generator().manual_seed(0)).apply(x)
        >>> set(moved.diff(dim=1).flatten().tolist()) <= {1.0, -7.0}
        True
    """

    ratio: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)

    def _draw(self, batch: Batch) -> ViewParams:
        longest = batch.size("ratio", self.ratio)
        shift = batch.integers(2 * longest + 1) - longest
        return ViewParams(index=batch.source((batch.step - shift) % batch.length))


@dataclass(frozen=True)
class Reverse(SeriesOp):
    """The series backwards.

    Example:
        >>> x = torch.tensor([[[1.0], [2.0], [3.0]]])
        >>> Reverse()(x, torch.Generator()).apply(x).flatten().tolist()
        [3.0, 2.0, 1.0]
    """

    def _draw(self, batch: Batch) -> ViewParams:
        return ViewParams(index=batch.source(batch.length - 1 - batch.step))
