"""Batches of one cluster each, so that all negatives in a batch are of it (Zhang et al., ECCV 2024, section 3).

Differs from the official code, where clusters take turns, incomplete batches are dropped, so that small clusters are
never trained on, and every process draws an order of its own without a common seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nearfar.runtime import generator


class ClusterBatchSampler:
    """Passes over all rows in batches of one cluster; what is left over of the clusters makes mixed batches.

    The batches of an epoch are a function of seed and epoch. Processes share them: each takes its part of every batch.
    It can be the ``batch_sampler`` of a ``DataLoader``; call :meth:`set_epoch` before each pass then.

    Args:
        clusters: Cluster (or code) of every row, integers, shape ``(n,)``.
        batch_size: Rows of a batch on all processes together, a multiple of ``world_size``.
        seed: Of the order.
        rank: Number of this process.
        world_size: How many processes there are.

    Attributes:
        epoch: Which pass iteration makes.

    Raises:
        ValueError: If a shape or number does not fit.

    Example:
        >>> sampler = ClusterBatchSampler(torch.tensor([5, 7, 5, 7, 5]), 2)
        >>> [len(rows) for rows in sampler.batches(0)]  # one of cluster 5 is left over
        [2, 2, 1]
    """

    def __init__(
        self, clusters: Tensor, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if clusters.dim() != 1 or clusters.is_floating_point() or not len(clusters):
            raise ValueError(
                f"clusters: integers of shape (n,) with n at least 1 expected, got {clusters.dtype} of shape "
                f"{tuple(clusters.shape)}"
            )
        if world_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"rank: 0 to world_size - 1 expected, got {rank} with world_size={world_size}")
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch_size: a multiple of world_size={world_size} expected, got {batch_size}")
        self._clusters = clusters.cpu().unique(return_inverse=True)[1]
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        """Batches of an epoch; of several processes, the last batch may have too few rows to share."""
        complete, left = divmod(len(self._clusters), self.batch_size)
        return complete + (left >= self.world_size)

    def batches(self, epoch: int) -> list[Tensor]:
        """This process's part of every batch of an epoch.

        Args:
            epoch: Which one.

        Returns:
            Rows, int64, shape ``(batch_size / world_size,)`` each; the last may be shorter, the same on every process,
            and less than ``world_size`` rows, other ones in every epoch, may be left out of it.
        """
        rng = generator(self.seed, "clusters", epoch)
        order = torch.randperm(len(self._clusters), generator=rng)
        by_cluster = order[self._clusters[order].argsort(stable=True)]
        sizes = self._clusters.bincount().tolist()
        every: list[Tensor] = []
        left: list[Tensor] = []
        for rows in by_cluster.split(sizes):
            fitting = len(rows) - len(rows) % self.batch_size
            every += rows[:fitting].split(self.batch_size) if fitting else ()
            left.append(rows[fitting:])
        mixed = torch.cat(left)
        mixed = mixed[torch.randperm(len(mixed), generator=rng)]
        every += mixed.split(self.batch_size) if len(mixed) else ()
        last = every.pop() if len(every[-1]) < self.batch_size else None
        shuffled = [every[i] for i in torch.randperm(len(every), generator=rng).tolist()]
        if last is not None and len(last) >= self.world_size:
            shuffled.append(last[: len(last) - len(last) % self.world_size])
        return [rows[self.rank :: self.world_size] for rows in shuffled]

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that iteration makes.

        Args:
            epoch: Which one.
        """
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches(self.epoch))
