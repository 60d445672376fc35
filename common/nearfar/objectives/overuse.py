r"""A price on features that are large in many rows (over-use penalty, after LexVLA, Li et al., NeurIPS 2024).

.. math:: p(z) = \sum_l \Big( \frac1N \sum_i |z_{il}| \Big)^2

A feature used by few rows costs little, one used by all a lot, so rarely informative ones go to 0. The exact form in
the paper was not at hand; this one is the FLOPS regulariser of Paria et al. (ICLR 2020). As part of a loss of cosines
it is taken of unit rows, since otherwise it would shrink all rows, and lies between 1/d and 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.checks import check_weights
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def overuse_penalty(z: Tensor) -> Tensor:
    """Sum over features of their squared mean size.

    Args:
        z: Shape ``(N, d)``, used as it is.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> overuse_penalty(torch.eye(4)).item()  # every feature in one row of four: 4 / 16
        0.25
        >>> overuse_penalty(torch.eye(4)[[0, 0, 0, 0]]).item()  # one in all
        1.0
    """
    check_views(z=z)
    with torch.autocast(z.device.type, enabled=False):
        return at_least_float32(z).abs().mean(0).square().sum()


class OveruseInfoNCE(SoftmaxObjective):
    """Symmetric InfoNCE plus the mean over-use penalty of both views' unit rows.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        weight: Of the penalty.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`; the penalty is then that of each process's own batch.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> loss = OveruseInfoNCE(weight=2.0)
        >>> round(loss(torch.ones(4, 3), torch.ones(4, 3)).item(), 4)  # log 4 + 2
        3.3863
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        weight: float = 0.1,
        *,
        backend: Backend = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        check_weights(weight=weight)
        super().__init__(temperature, backend, group, weight=weight)
        self.weight = weight

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(first=first, second=second)
        unit = [smooth_normalize(at_least_float32(x)) for x in (first, second)]
        penalty = torch.stack([overuse_penalty(x) for x in unit]).mean()
        return self._contrast(first, second, symmetric=True) + self.weight * penalty
