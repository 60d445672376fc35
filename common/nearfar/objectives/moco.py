r"""Pick the slow copy's key among keys of earlier batches (MoCo, He et al., CVPR 2020, eq. 1 and section 3.2).

.. math:: \ell_i = -\log \frac{e^{s(q_i, k_i)}}{e^{s(q_i, k_i)} + \sum_{a \in A} e^{s(q_i, a)}}

A is a :class:`nearfar.objectives.queue.KeyQueue` that this module holds. Before the first keys are queued the other
keys of the batch stand in for it, where the official code starts with random vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_counts
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.queue import KeyQueue
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views


class QueuedObjective(SoftmaxObjective):
    """What losses with a queue of their own have in common.

    Args:
        dim: Width of a key.
        temperature: A positive number, or a module that returns one.
        queue: Keys held at most.

    Attributes:
        queue: Unit keys of earlier batches, part of checkpoints.

    Raises:
        ValueError: If ``dim`` or ``queue`` is below 1.
    """

    def __init__(self, dim: int, temperature: Temperature, queue: int) -> None:
        check_counts(dim=dim, queue=queue)
        super().__init__(temperature, "auto", None, dim=dim, queue=queue)
        self.queue = KeyQueue(queue, dim)
        self._keys: Tensor | None = None

    def after_step(self) -> None:
        """Queue the keys of the last forward pass in training mode; call it when the step is made."""
        if self._keys is not None:
            self.queue.enqueue(self._keys)
            self._keys = None

    def _pick(self, q: Tensor, keys: Tensor) -> Tensor:
        """Loss of rows whose positives are ``keys``, unit and without gradient."""
        queue = self.queue if len(self.queue) else None
        return self._contrast(q, keys, queue=queue)

    def _units(self, **views: Tensor) -> list[Tensor]:
        """Views as they are compared, those of the slow copy (``target_...``) as unit keys without gradient."""
        check_views(1, self.queue.dim, **views)
        return [
            smooth_normalize(at_least_float32(x.detach()))
            if name.startswith("target")
            else at_least_float32(x)
            for name, x in views.items()
        ]

    def _keep(self, *keys: Tensor) -> None:
        if self.training:
            self._keys = torch.cat(keys)


class MoCo(QueuedObjective):
    """One direction: the first view picks its second view through the slow copy.

    Args:
        dim: Width of a key.
        temperature: A positive number, or a module that returns one.
        queue: Keys held at most.

    Raises:
        ValueError: If ``dim`` or ``queue`` is below 1.

    Example:
        >>> loss, x = MoCo(2, queue=6), torch.ones(4, 2)
        >>> round(loss(x, x).item(), 4)  # an empty queue: log 4
        1.3863
        >>> loss.after_step()
        >>> round(loss(x, x).item(), 4)  # four queued keys and the positive: log 5
        1.6094
    """

    def __init__(self, dim: int, temperature: Temperature = 0.2, queue: int = 4096) -> None:
        super().__init__(dim, temperature, queue)

    def forward(self, first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, dim)``.
            target_second: The second view through the slow copy, same shape as ``first``; no gradient reaches it.
        """
        q, keys = self._units(first=first, target_second=target_second)
        self._keep(keys)
        return self._pick(q, keys)
