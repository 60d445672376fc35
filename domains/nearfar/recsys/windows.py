"""Training batches of SASRec: every (prefix, next item) pair once an epoch, whole windows at a time.

One causal pass over a window trains all its prefixes at once; that is the same loss and gradient as one
padded row per prefix (checked in float64 by the tests) at a fiftieth of the arithmetic. Histories longer
than the window are covered by overlapping windows, where only positions no earlier window scored carry
loss; every target keeps at least ``max_length - stride + 1`` items of context.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.interactions import PADDING
from nearfar.recsys.split import LeaveOneOut
from nearfar.runtime import Runtime, numpy_generator


@dataclass(frozen=True)
class Windows:
    """Slices of the item array, one per training window.

    Window w reads ``items[start:stop]``; its inputs are all but the last of these, its targets all but
    the first, and the loss counts targets from position ``scored`` on.

    Attributes:
        start: First item, int64, shape ``(W,)``.
        stop: One past the last target, int64, shape ``(W,)``.
        scored: First position with loss, int64, shape ``(W,)``.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    scored: NDArray[np.int64]

    @property
    def num_targets(self) -> NDArray[np.int64]:
        """Targets with loss per window."""
        return self.stop - self.start - 1 - self.scored


def make_windows(split: LeaveOneOut, max_length: int, stride: int) -> Windows:
    """Cut every training history into windows of at most ``max_length`` inputs.

    Args:
        split: Training ends per user.
        max_length: Longest input, items.
        stride: Items between the ends of consecutive windows of one user, at most ``max_length``.
    """
    rows: list[tuple[int, int, int]] = []
    begins, ends = split.data.offsets[:-1].tolist(), split.train_ends.tolist()
    for begin, end in zip(begins, ends, strict=True):
        covered = begin  # targets up to here have their loss
        while covered < end - 1:
            stop = min(end, begin + max_length + 1) if covered == begin else min(end, covered + 1 + stride)
            start = max(begin, stop - max_length - 1)
            rows.append((start, stop, covered - start))
            covered = stop - 1
    start, stop, scored = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Windows(start, stop, scored)


@dataclass(frozen=True)
class SequenceBatch:
    """Padded windows of this process, and the size of the whole batch over all processes.

    Attributes:
        items: Inputs, left-aligned, 0 = padding, int64, shape ``(B, L)``.
        targets: Next items, 0 where no loss is counted, int64, shape ``(B, L)``.
        places: Where loss is counted, as places in the flattened ``targets``, int64, shape ``(T,)``: found on the
            host, because a device would have to be waited for.
        num_targets: Targets with loss over all processes.
    """

    items: Tensor
    targets: Tensor
    places: Tensor
    num_targets: int

    @classmethod
    def of(cls, items: Tensor, targets: Tensor, num_targets: int | None = None) -> SequenceBatch:
        """A batch of these windows, in host memory.

        Args:
            items: Inputs, shape ``(B, L)``.
            targets: Next items, shape ``(B, L)``.
            num_targets: Over all processes; ``None`` counts those here.
        """
        places = targets.flatten().nonzero()[:, 0]
        return cls(items, targets, places, len(places) if num_targets is None else num_targets)

    @property
    def classes(self) -> Tensor:
        """Scored targets as classes from 0, in the order of ``places``, shape ``(T,)``; padding is no class."""
        return self.targets.flatten().index_select(0, self.places) - 1

    def chunks(self, count: int) -> list[SequenceBatch]:
        """The same in at most ``count`` pieces of some windows each."""
        pieces = zip(self.items.chunk(count), self.targets.chunk(count), strict=True)
        return [SequenceBatch.of(items, targets, self.num_targets) for items, targets in pieces]


class WindowBatches:
    """Batches of about ``targets_per_batch`` targets; windows of similar length go together.

    The order of epoch e is drawn from stream ``order`` at e; the number of batches is the same in every
    epoch, so the batch of any step can be found without the steps before it.
    """

    def __init__(
        self,
        split: LeaveOneOut,
        *,
        max_length: int,
        stride: int,
        targets_per_batch: int,
        seed: int,
        runtime: Runtime,
    ) -> None:
        if targets_per_batch < max_length:
            raise ConfigError(
                f"targets_per_batch: at least max_length ({max_length}) expected, got {targets_per_batch}"
            )
        self.windows = make_windows(split, max_length, stride)
        self._items = split.data.items
        self._size, self._seed, self._runtime = targets_per_batch, seed, runtime
        self.steps_per_epoch = -(-int(self.windows.num_targets.sum()) // targets_per_batch)
        # Two epochs, since threads that prepare batches may be on both sides of a boundary.
        self._ordered = lru_cache(maxsize=2)(self._order)

    @classmethod
    def of(cls, config: SequenceModelConfig, split: LeaveOneOut, runtime: Runtime) -> WindowBatches:
        """The batches that a configuration asks for."""
        return cls(
            split,
            max_length=config.max_length,
            stride=config.window_stride,
            targets_per_batch=config.targets_per_batch,
            seed=config.seed,
            runtime=runtime,
        )

    def batch(self, step: int) -> SequenceBatch:
        """The batch of a global step, in host memory."""
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = self._ordered(epoch)[place]
        items, targets = self._pad(chosen[self._runtime.rank :: self._runtime.world_size])
        return SequenceBatch.of(
            torch.from_numpy(items), torch.from_numpy(targets), int(self.windows.num_targets[chosen].sum())
        )

    def _order(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = numpy_generator(self._seed, "order", epoch)
        lengths = self.windows.stop - self.windows.start
        jitter = rng.uniform(0.8, 1.2, len(lengths))
        order = np.argsort(lengths * jitter, kind="stable")
        # A window belongs to the batch its last target falls into; windows are no longer than a
        # batch, so no batch is empty.
        ends = np.cumsum(self.windows.num_targets[order])
        cuts = np.flatnonzero(np.diff((ends - 1) // self._size)) + 1
        batches = np.split(order, cuts)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _pad(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        start, stop = self.windows.start[chosen], self.windows.stop[chosen]
        length = stop - start - 1
        position = np.arange(max(1, int(length.max(initial=1))))
        inside = position < length[:, None]
        index = np.where(inside, start[:, None] + position, 0)
        items = np.where(inside, self._items[index], PADDING)
        scored = inside & (position >= self.windows.scored[chosen][:, None])
        targets = np.where(scored, self._items[np.where(inside, index + 1, 0)], PADDING)
        return items, targets


def pad_histories(histories: list[NDArray[np.int64]], max_length: int) -> tuple[Tensor, Tensor]:
    """The newest ``max_length`` items of each history, left-aligned, and how many there are.

    Args:
        histories: Item indices, oldest first, each non-empty.
        max_length: Longest row kept.

    Returns:
        Items ``(N, L)`` int64, 0 = padding, and lengths ``(N,)`` int64.
    """
    kept = [history[-max_length:] for history in histories]
    lengths = np.array([len(history) for history in kept], dtype=np.int64)
    items = np.full((len(kept), int(lengths.max(initial=1))), PADDING, dtype=np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate(kept) if kept else []
    return torch.from_numpy(items), torch.from_numpy(lengths)
