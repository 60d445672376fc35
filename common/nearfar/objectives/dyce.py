r"""A memory of earlier rows that knows its clusters (DyCE of BECLR, Poulakakis-Daktylidis et al., ICLR 2024).

A ring of M unit rows, each assigned to one of K prototypes. A new batch is spread evenly over the prototypes: its
assignment is the largest entry in every row of the Sinkhorn plan of the cost 1 - cos, divided by its maximum,

.. math:: \Pi = \arg\min_\Pi \langle \Pi, C \rangle - \epsilon H(\Pi), \qquad \Pi 1 = 1 / B, \quad \Pi^T 1 = 1 / K

and a prototype is then the mean of its members.

Differs from the official code, which hands exp(+distance / eps) to Sinkhorn, and so assigns every row to a prototype
as far off as possible, and whose eps of 1e-5 overflows: here the nearest is meant, and eps is 0.05, in logarithms. The
first clusters come from balanced k-means, so that they start as even as Sinkhorn keeps them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.checks import check_counts, check_features, check_positive, check_shares
from nearfar.cluster import balanced_kmeans
from nearfar.objectives.queue import KeyQueue
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.runtime import generator
from nearfar.sinkhorn import sinkhorn


class DyCEMemory(nn.Module):
    """The last ``capacity`` unit rows in clusters, first in, first out, kept in checkpoints.

    Args:
        capacity: Rows held at most, M.
        dim: Width of a row, d.
        prototypes: Clusters, K, at most M.
        momentum: Share of the old prototype that stays when it becomes the mean of its members, in [0, 1).
        eps: Weight of the entropy in the assignment of a batch.
        iterations: Rounds of Sinkhorn for a batch.
        seed: Of the k-means that starts the clusters.

    Attributes:
        queue: The rows, and the cluster of each as its id; all ids are 0 until the memory is full.
        prototypes: Means of the clusters, shape ``(K, d)``; zeros until the memory is full.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> memory = DyCEMemory(4, 2, prototypes=2)
        >>> memory.enqueue(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.9, 0.1], [0.1, 0.9]]))
        >>> memory.is_full
        True
        >>> memory.neighbours(torch.tensor([[3.0, 0.0]]), 1)
        tensor([[[1., 0.]]])
    """

    prototypes: Tensor

    def __init__(
        self,
        capacity: int,
        dim: int,
        *,
        prototypes: int = 32,
        momentum: float = 0.0,
        eps: float = 0.05,
        iterations: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= prototypes <= capacity:
            raise ValueError(f"prototypes: 1 to capacity={capacity} expected, got {prototypes}")
        check_shares(below_one=True, momentum=momentum)
        check_counts(iterations=iterations)
        check_positive(eps=eps)
        self.queue = KeyQueue(capacity, dim, with_ids=True)
        self.register_buffer("prototypes", torch.zeros(prototypes, dim))
        self.momentum, self.eps, self.iterations, self.seed = momentum, eps, iterations, seed

    @property
    def is_full(self) -> bool:
        """Whether there are clusters: from the first time that all places are taken."""
        return len(self.queue) == self.queue.capacity

    @property
    def assignment(self) -> Tensor:
        """Cluster of every row held, int64, shape ``(len(queue),)``, in the order of ``queue.keys``."""
        ids = self.queue.ids
        assert ids is not None
        return ids

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Put rows in, in place of the oldest, and move the prototypes.

        Args:
            z: Finite, floating point, shape ``(n, d)``; of any length, kept as unit rows without gradient.

        Raises:
            ValueError: If the shape or dtype does not fit.
        """
        unit, had_clusters = self._unit("z", z), self.is_full
        if not len(unit):
            return
        ids = (
            self.assign(unit) if had_clusters else torch.zeros(len(unit), dtype=torch.int64, device=z.device)
        )
        self.queue.enqueue(unit, ids)
        if had_clusters:
            self._move_prototypes()
        elif self.is_full:
            self.cluster()

    @torch.no_grad()
    def assign(self, z: Tensor) -> Tensor:
        """Clusters of a batch, near ones and all about equally often.

        Args:
            z: Shape ``(n, d)``, n at least 1.

        Returns:
            int64, shape ``(n,)``.

        Raises:
            ValueError: If the shape or dtype does not fit, or the memory is not full yet.
        """
        self._check_full()
        cost = 1 - self._unit("z", z) @ smooth_normalize(self.prototypes).mT
        cost = cost / cost.max().clamp(min=torch.finfo(cost.dtype).tiny)
        return sinkhorn(cost, eps=self.eps, iterations=self.iterations).argmax(1)

    @torch.no_grad()
    def cluster(self, count: int = 0) -> None:
        """Cluster all rows anew, as when the memory was full for the first time; waits for the device.

        Args:
            count: Which time this is: other numbers are other random seeds of k-means.

        Raises:
            ValueError: If the memory is not full yet.
        """
        self._check_full()
        rng = generator(self.seed, "dyce", count)
        found = balanced_kmeans(self.queue.keys, len(self.prototypes), generator=rng)
        self.assignment.copy_(found.labels)
        self.prototypes.copy_(self._means(self.prototypes))

    @torch.no_grad()
    def neighbours(self, z: Tensor, k: int) -> Tensor:
        """The ``k`` rows nearest by cosine in the cluster of the prototype that is nearest.

        Args:
            z: Shape ``(N, d)``.
            k: Rows for each, from 0 to M. Where the cluster has fewer, they come from the whole memory.

        Returns:
            Shape ``(N, k, d)``, nearest first, unit rows without gradient.

        Raises:
            ValueError: If a shape or dtype does not fit, ``k`` is out of range, or the memory is not full yet.
        """
        self._check_full()
        if not 0 <= k <= self.queue.capacity:
            raise ValueError(f"k: 0 to the {self.queue.capacity} rows of the memory expected, got {k}")
        rows, (unit, members) = self.queue.keys, (self._unit("z", z), self.assignment)
        if k == 0 or not len(unit):
            return rows.new_empty(len(unit), k, rows.shape[1])
        centres = smooth_normalize(self.prototypes)
        large = self._sizes() >= k

        def nearest(part: Tensor) -> Tensor:
            cluster = (part @ centres.mT).argmax(1)
            outside = (members != cluster[:, None]) & large[cluster][:, None]
            return (part @ rows.mT).masked_fill(outside, -torch.inf).topk(k, dim=1).indices

        return rows[by_row_tiles(nearest, unit, width=len(rows))]

    def _unit(self, name: str, z: Tensor) -> Tensor:
        dim = self.queue.dim
        check_features(name, z, shape=f"(n, {dim})")
        if z.dim() != 2 or z.shape[1] != dim:
            raise ValueError(f"{name}: (n, {dim}) expected, got shape {tuple(z.shape)}")
        return smooth_normalize(z.detach().to(self.prototypes.dtype))

    def _check_full(self) -> None:
        if not self.is_full:
            raise ValueError(
                f"memory: no clusters before it is full, got {len(self.queue)} of {self.queue.capacity} rows; "
                "ask is_full first"
            )

    def _sizes(self) -> Tensor:
        ones = torch.ones_like(self.assignment)
        return ones.new_zeros(len(self.prototypes)).index_add_(0, self.assignment, ones)

    def _means(self, otherwise: Tensor) -> Tensor:
        sums = torch.zeros_like(self.prototypes).index_add_(0, self.assignment, self.queue.keys)
        sizes = self._sizes()[:, None]
        return torch.where(sizes > 0, sums / sizes.clamp(min=1), otherwise)

    def _move_prototypes(self) -> None:
        means = self._means(self.prototypes)
        self.prototypes.lerp_(means, 1 - self.momentum)
