"""Training batches of MCLRec: windows for the next-item loss, and augmented prefixes to contrast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment import two_views
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime, generator


@dataclass(frozen=True)
class ContrastBatch:
    """Windows and two views of some histories.

    Attributes:
        windows: For the next-item loss.
        items: Both views one after the other, shape ``(2 B, L)``; 0 is padding, or a masked item within the length.
        lengths: Positions of each, shape ``(2 B,)``.
    """

    windows: SequenceBatch
    items: Tensor
    lengths: Tensor


class Prefixes:
    """All training prefixes of all users: what a history looked like when each of its items came next.

    Args:
        split: Training histories.
        max_length: Newest items of a prefix that are kept.
    """

    def __init__(self, split: LeaveOneOut, max_length: int) -> None:
        data = split.data
        # One prefix per training target: it ends where the target stands and begins with the user.
        place = torch.arange(len(data.items))
        begin = torch.from_numpy(data.offsets[:-1]).repeat_interleave(torch.from_numpy(data.lengths))
        end = torch.from_numpy(split.train_ends).repeat_interleave(torch.from_numpy(data.lengths))
        is_target = (place > begin) & (place < end)
        self.items, self.max_length = torch.from_numpy(data.items), max_length
        self.ends, self.begins = place[is_target], begin[is_target]

    def __len__(self) -> int:
        return len(self.ends)

    def draw(self, rows: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Prefixes drawn uniformly from all: items ``(rows, L)`` and lengths."""
        chosen = torch.randint(len(self), (rows,), generator=rng)
        end, begin = self.ends[chosen], self.begins[chosen]
        lengths = (end - begin).clamp(max=self.max_length)
        position = torch.arange(int(lengths.max()))
        index = (end - lengths)[:, None] + position
        inside = position < lengths[:, None]
        return self.items[index.clamp(max=len(self.items) - 1)] * inside, lengths


class ContrastBatches:
    """Windows as of SASRec; histories of step s come from the streams ``rows`` and ``augment`` at s.

    Every process draws all of them and keeps its own, so several processes see what one would.

    Args:
        config: Sizes and augmentations.
        split: Training histories.
        runtime: Which share is this process's.
    """

    def __init__(self, config: MCLRecConfig, split: LeaveOneOut, runtime: Runtime) -> None:
        self._windows = WindowBatches.of(config, split, runtime)
        self._prefixes = Prefixes(split, config.max_length)
        self._contrast, self._seed, self._runtime = config.contrast, config.seed, runtime
        self.steps_per_epoch = self._windows.steps_per_epoch

    def batch(self, step: int) -> ContrastBatch:
        """The batch of a global step, in host memory."""
        c = self._contrast
        items, lengths = self._prefixes.draw(c.rows, generator(self._seed, "rows", step))
        views = two_views(
            items,
            lengths,
            generator(self._seed, "augment", step),
            crop_ratio=c.crop_ratio,
            mask_ratio=c.mask_ratio,
            reorder_ratio=c.reorder_ratio,
        )
        own = slice(self._runtime.rank, None, self._runtime.world_size)
        return ContrastBatch(
            self._windows.batch(step),
            torch.cat([view[own] for view, _ in views]),
            torch.cat([length[own] for _, length in views]),
        )
