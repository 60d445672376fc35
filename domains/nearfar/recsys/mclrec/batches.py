"""Training batches of MCLRec: windows for the next-item loss, and augmented prefixes to contrast."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nearfar.augment import two_views
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch, WindowBatches
from nearfar.runtime import Runtime, generator


@dataclass(frozen=True)
class Views:
    """Two views of some histories, in order of length.

    Short histories are encoded together, without the padding of the longest one.

    Attributes:
        items: Shape ``(2 B, L)``; 0 is padding, or a masked item within the length.
        lengths: Positions of each, int64, shape ``(2 B,)``.
        order: Row of each history's first view, then of each one's second view, int64, shape ``(2 B,)``.
        ids: Histories with equal ids are no negatives of each other, int64, shape ``(B,)``; ``None`` where all are.
        groups: First row and longest length of each group to encode together; the last one is only an end.
    """

    items: Tensor
    lengths: Tensor
    order: Tensor
    ids: Tensor | None
    groups: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, items: Tensor, lengths: Tensor, ids: Tensor | None = None) -> Views:
        """Sort rows by length, in host memory.

        Args:
            items: First views, then second views, shape ``(2 B, L)``.
            lengths: Positions of each, shape ``(2 B,)``.
            ids: As the attribute, shape ``(B,)``.
        """
        rows = lengths.argsort(stable=True)
        lengths = lengths[rows]
        # Groups of up to 8, 16, 32, ... positions: beyond the first, at most half of a group is padding.
        exponents = (lengths - 1).clamp(min=7).double().log2().long()
        firsts = [0, *(exponents.diff().nonzero()[:, 0] + 1).tolist(), len(rows)]
        longest = [int(lengths[end - 1]) for end in firsts[1:]] + [0]
        return cls(items[rows], lengths, rows.argsort(), ids, tuple(zip(firsts, longest, strict=True)))

    def pieces(self) -> list[tuple[Tensor, Tensor]]:
        """Items and lengths of each group, without padding beyond its longest row."""
        return [
            (self.items[begin:end, :longest], self.lengths[begin:end])
            for (begin, longest), (end, _) in pairwise(self.groups)
        ]


@dataclass(frozen=True)
class Histories:
    """What the views of a batch were made of, for objectives that want to see it.

    Attributes:
        plain: As they are, B rows.
        spoilt: With another item at the end.
        targets: The items that came next, int64, shape ``(B,)``.
        lengths: Positions of each, int64, shape ``(B,)``.
    """

    plain: Views
    spoilt: Views
    targets: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class ContrastBatch:
    """Windows for the next-item loss, and what is contrasted beside it.

    Attributes:
        windows: Of this process.
        views: Of this process; ``None`` where no term needs them.
        histories: What they were made of; ``None`` without a chosen objective.
    """

    windows: SequenceBatch
    views: Views | None
    histories: Histories | None = None


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
        self._users = torch.arange(data.num_users).repeat_interleave(torch.from_numpy(data.lengths))

    def __len__(self) -> int:
        return len(self.ends)

    def draw(self, rows: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Prefixes drawn uniformly from all: items ``(rows, L)`` and lengths."""
        return self.take(torch.randint(len(self), (rows,), generator=rng))

    def users(self, chosen: Tensor) -> Tensor:
        """Whose prefixes these are; numbers and users of shape ``(B,)``."""
        return self._users[self.ends[chosen]]

    def targets(self, chosen: Tensor) -> Tensor:
        """The items that came next; numbers and items of shape ``(B,)``."""
        return self.items[self.ends[chosen]]

    def take(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Prefixes by number: items ``(rows, L)`` and lengths ``(rows,)``."""
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
        self._prefixes = Prefixes(split, config.max_length) if config.uses_views else None
        self._contrast, self._seed, self._runtime = config.contrast, config.seed, runtime
        self._chosen, self._num_items = config.objective is not None, split.data.num_items
        self.steps_per_epoch = self._windows.steps_per_epoch

    def batch(self, step: int) -> ContrastBatch:
        """The batch of a global step, in host memory."""
        windows = self._windows.batch(step)
        if self._prefixes is None:
            return ContrastBatch(windows, None)
        rng = generator(self._seed, "rows", step)
        chosen = torch.randint(len(self._prefixes), (self._contrast.rows,), generator=rng)
        histories = self._histories(self._prefixes, chosen, step) if self._chosen else None
        return ContrastBatch(windows, self._views(self._prefixes, chosen, step), histories)

    def _histories(self, prefixes: Prefixes, chosen: Tensor, step: int) -> Histories:
        items, lengths = prefixes.take(chosen)
        # Any of the other items, all of them equally likely.
        rng = generator(self._seed, "spoilt", step)
        shift = torch.randint(1, max(2, self._num_items), (len(items),), generator=rng)
        last = lengths[:, None] - 1
        other = (items.gather(1, last) - 1 + shift[:, None]) % self._num_items + 1
        own = slice(self._runtime.rank, None, self._runtime.world_size)
        return Histories(
            Views.of(items[own], lengths[own]),
            Views.of(items.scatter(1, last, other)[own], lengths[own]),
            prefixes.targets(chosen)[own],
            lengths[own],
        )

    def _views(self, prefixes: Prefixes, chosen: Tensor, step: int) -> Views:
        c = self._contrast
        views = two_views(
            *prefixes.take(chosen),
            generator(self._seed, "augment", step),
            crop_ratio=c.crop_ratio,
            mask_ratio=c.mask_ratio,
            reorder_ratio=c.reorder_ratio,
        )
        ids = {"same_user": prefixes.users, "same_target": prefixes.targets}.get(c.false_negatives)
        own = slice(self._runtime.rank, None, self._runtime.world_size)
        return Views.of(
            torch.cat([view[own] for view, _ in views]),
            torch.cat([length[own] for _, length in views]),
            None if ids is None else ids(chosen[own]),
        )
