"""What a series model is trained on: pieces of long series, or short series as they are.

``sections`` cuts a long series into as many equal parts as crops fit in and looks at one place of all of them in a
step, as TS2Vec (Yue et al., AAAI 2022) and AutoTCL (Zheng et al., ICLR 2024) do: ETTh1 has 33 parts and one step an
epoch.
``anywhere`` draws the place of every crop on its own.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from nearfar.runtime import generator


class Sections:
    """Batches of crops as a function of the step; in host memory, and whole on every process.

    Args:
        series: Shape ``(N, T, F)``, NaN where nothing is known; shorter series end in NaN.
        batch_size: Series in a batch, lowered to as many as there are.
        crop: Steps of a series in a batch at most.
        seed: Of the draws.
        sampling: See above.

    Attributes:
        steps_per_epoch: Whole batches in one pass over the series.
    """

    def __init__(
        self,
        series: Tensor,
        *,
        batch_size: int = 32,
        crop: int = 256,
        seed: int = 0,
        sampling: Literal["sections", "anywhere"] = "sections",
    ) -> None:
        self.seed, self.sampling = seed, sampling
        self.series = split_into_sections(series, crop) if sampling == "sections" else series
        self.crop = min(crop, self.series.shape[1])
        pieces = len(self.series)
        if sampling == "anywhere":
            pieces *= max(1, self.series.shape[1] // self.crop)
        self.batch_size = max(2, min(batch_size, pieces))
        self.steps_per_epoch = max(1, pieces // self.batch_size)
        known = ~self.series.isnan().all(2)
        steps = torch.arange(self.series.shape[1])
        # Where data begin and end in each row; one without any is looked at from its first step.
        self._first = known.int().argmax(1)
        self._end = torch.where(known, steps + 1, 0).amax(1)

    def batch(self, step: int) -> Tensor:
        """Crops of a step, shape ``(B, crop, F)``."""
        rows = self._rows(step)
        place = self._starts(rows, step)[:, None] + torch.arange(self.crop)
        return self.series[rows[:, None], place]

    def _rows(self, step: int) -> Tensor:
        epoch, part = divmod(step, self.steps_per_epoch)
        rng, count = generator(self.seed, "order", epoch), len(self.series)
        repeats = 1 if self.sampling == "sections" else max(1, self.series.shape[1] // self.crop)
        order = torch.randperm(count * repeats, generator=rng) % count
        rows = order[part * self.batch_size : (part + 1) * self.batch_size]
        return rows if len(rows) > 1 else torch.arange(2) % count

    def _starts(self, rows: Tensor, step: int) -> Tensor:
        rng, room = generator(self.seed, "crop", step), self.series.shape[1] - self.crop
        if self.sampling == "sections":
            return torch.randint(room + 1, (1,), generator=rng).expand(len(rows))
        first = self._first[rows].clamp(max=room)
        last = (self._end[rows] - self.crop).clamp(min=0).maximum(first)
        draw = torch.rand(len(rows), generator=rng, dtype=torch.float64)
        return first + (draw * (last - first + 1)).long()


def split_into_sections(series: Tensor, crop: int) -> Tensor:
    """Every series in as many parts as crops fit in, equal up to one step, at least two parts in all.

    Args:
        series: Shape ``(N, T, F)``.
        crop: Steps.

    Returns:
        Shape ``(N * parts, steps, F)``; shorter parts end in NaN. Series that are not longer than a crop stay as they
        are.

    Example:
        >>> parts = split_into_sections(torch.arange(7.0).reshape(1, 7, 1), 3)
        >>> parts[..., 0].tolist()
        [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, nan]]
    """
    count, steps, width = series.shape
    parts = max(steps // crop, 2 if count == 1 and steps > 1 else 1)
    if parts == 1:
        return series
    size = -(-steps // parts)
    pieces = series.tensor_split(parts, dim=1)
    padded = [torch.cat([p, p.new_full((count, size - p.shape[1], width), torch.nan)], 1) for p in pieces]
    return torch.stack(padded, 1).flatten(0, 1)
