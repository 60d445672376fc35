r"""Alignment and uniformity as a loss (Wang and Isola, ICML 2020, section 5).

.. math:: \ell = \frac1N \sum_i \lVert \tilde z_{1,i} - \tilde z_{2,i} \rVert^p
          + \lambda \, \frac{u(z_1) + u(z_2)}{2}, \qquad
          u(z) = \log \frac{2}{N (N-1)} \sum_{i<j} e^{-t \lVert \tilde z_i - \tilde z_j \rVert^2}

InfoNCE tends to such a sum when the number of negatives grows.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.checks import check_positive, check_weights
from nearfar.objectives.objective import Objective
from nearfar.objectives.statistics import alignment, uniformity
from nearfar.objectives.views import check_views


def align_uniform_loss(
    first: Tensor, second: Tensor, *, weight: float = 1.0, t: float = 2.0, power: float = 2.0
) -> Tensor:
    """How far views of one row are apart, plus how crowded the rows of each view are.

    Args:
        first: First view, shape ``(N, d)`` with N at least 2.
        second: Second view, same shape as ``first``.
        weight: Of the mean of both uniformities.
        t: Sharpness of the potential of uniformity.
        power: Of the distance in alignment; below 2 a pair of equal rows has a kink, and a gradient of 0.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, or a number is out of range.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> round(align_uniform_loss(z, z).item(), 4)  # 0 - t 2^2
        -8.0
    """
    check_views(2, first=first, second=second)
    check_weights(weight=weight)
    spread = (uniformity(first, t=t) + uniformity(second, t=t)) / 2
    return alignment(first, second, power=power) + weight * spread


class AlignUniform(Objective):
    """:func:`align_uniform_loss` as a module.

    Args:
        weight: Of the mean of both uniformities.
        t: Sharpness of the potential of uniformity.
        power: Of the distance in alignment.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> AlignUniform(weight=0.5)
        AlignUniform(weight=0.5, t=2.0, power=2.0)
    """

    def __init__(self, weight: float = 1.0, t: float = 2.0, power: float = 2.0) -> None:
        check_weights(weight=weight)
        check_positive(t=t, power=power)
        super().__init__(weight=weight, t=t, power=power)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """As :func:`align_uniform_loss`, shapes ``(N, d)``."""
        return align_uniform_loss(first, second, **self.config)
