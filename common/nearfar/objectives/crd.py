r"""Pick the teacher's representation of the other view (CRD, Tian et al., ICLR 2020; VidLanKD, NeurIPS 2021).

.. math:: \ell = \tfrac12 \bigl( \ell_{\mathrm{MoCo}}(z_1, t_2) + \ell_{\mathrm{MoCo}}(z_2, t_1) \bigr)

z are the student's representations of two views, t the teacher's: two directions of
:class:`nearfar.objectives.moco.MoCo` that share one queue of the teacher's keys.

Differs from the paper: the softmax of InfoNCE, where CRD estimates a density ratio with a logistic loss; a queue of
what the teacher made lately, where it keeps one entry for every row of the data; both in one space, so projections to
it are the caller's.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.objectives.contrast import Temperature
from nearfar.objectives.moco import QueuedObjective


class CRD(QueuedObjective):
    """Contrastive distillation, both views.

    Args:
        dim: Width of a key.
        temperature: A positive number, or a module that returns one.
        queue: Keys held at most; a batch of N rows brings 2 N.

    Raises:
        ValueError: If ``dim`` or ``queue`` is below 1.

    Example:
        >>> import torch
        >>> loss, x = CRD(2), torch.ones(4, 2)
        >>> round(loss(x, x, x, x).item(), 4)  # an empty queue: log 4
        1.3863
        >>> loss.after_step()
        >>> round(loss(x, x, x, x).item(), 4)  # eight queued keys and the positive: log 9
        2.1972
    """

    def __init__(self, dim: int, temperature: Temperature = 0.1, queue: int = 4096) -> None:
        super().__init__(dim, temperature, queue)

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, dim)``.
            second: Second view, same shape as ``first``.
            target_first: The first view through the teacher, same shape as ``first``; no gradient reaches it.
            target_second: The second view through the teacher, same shape as ``first``; no gradient reaches it.
        """
        one, two, key_one, key_two = self._units(
            first=first, second=second, target_first=target_first, target_second=target_second
        )
        self._keep(key_one, key_two)
        return (self._pick(one, key_two) + self._pick(two, key_one)) / 2
