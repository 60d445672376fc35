r"""Make the cross-correlation of two views the identity (Barlow Twins, Zbontar et al., ICML 2021, eq. 1-2).

With every feature standardised over the batch (biased standard deviation),

.. math:: C = \frac{1}{N} A^\top B, \qquad
          \ell = \sum_l (1 - C_{ll})^2 + \lambda \sum_{l \neq m} C_{lm}^2

Independent Gaussian views give d (1 + 1/(N - 1)) + lambda d (d - 1)/(N - 1) in expectation, identical
decorrelated views 0.

Differs from the official code: lambda is the paper's 0.005 (code: 0.0051) and nothing scales the sum. PyGCL
standardises with the unbiased deviation but divides by N, so that its diagonal never exceeds (N - 1)/N.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_choice, check_positive, check_weights
from nearfar.objectives.objective import Objective
from nearfar.objectives.views import at_least_float32, check_views


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """Correlation over the batch of every feature of one view with every one of the other.

    Args:
        a: First view, shape ``(N, d)`` with N at least 2, checked.
        b: Second view, same shape as ``a``.
        eps: Added to every variance.

    Returns:
        Shape ``(d, d)``, rows for features of ``a``. Half precision and autocast are computed in float32.

    Example:
        >>> a = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> cross_correlation(a, a.flip(1), eps=1e-9)
        tensor([[0., 1.],
                [1., 0.]])
    """
    with torch.autocast(a.device.type, enabled=False):
        # In training mode batch normalisation divides by the biased deviation.
        a, b = (F.batch_norm(at_least_float32(x), None, None, training=True, eps=eps) for x in (a, b))
        return a.mT @ b / len(a)


def barlow_twins_loss(
    a: Tensor, b: Tensor, *, off_diagonal_weight: float | Literal["1/d"] = 5e-3, eps: float = 1e-5
) -> Tensor:
    """Squared distance of the views' cross-correlation matrix from the identity.

    Args:
        a: First view, shape ``(N, d)`` with N at least 2; not normalised.
        b: Second view, same shape as ``a``.
        off_diagonal_weight: Lambda; ``"1/d"`` is that of G-BT for graphs (Bielak et al., 2022).
        eps: Added to every variance; positive, so that a constant feature counts as uncorrelated.

    Returns:
        Scalar, a sum over features: it grows with d. Half precision and autocast are computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, or a number is out of range.

    Example:
        >>> a = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(barlow_twins_loss(a, a).item(), 4)  # decorrelated features, the same in both views
        0.0
        >>> round(barlow_twins_loss(a, -a).item(), 3)  # two diagonal elements of -1: 2 * (1 + 1)^2
        8.0
        >>> round(barlow_twins_loss(a, a.flip(1), off_diagonal_weight="1/d").item(), 3)  # 1 + 1 + (1 + 1) / 2
        3.0
    """
    check_views(2, a=a, b=b)
    check_numbers(off_diagonal_weight, eps)
    weight = 1 / a.shape[1] if isinstance(off_diagonal_weight, str) else off_diagonal_weight
    correlation = cross_correlation(a, b, eps)
    off_diagonal = correlation.square().fill_diagonal_(0).sum()
    return (1 - correlation.diagonal()).square().sum() + weight * off_diagonal


def check_numbers(off_diagonal_weight: float | Literal["1/d"], eps: float) -> None:
    """Raise ValueError unless both are what :func:`barlow_twins_loss` takes.

    Args:
        off_diagonal_weight: Wanted not negative, or ``"1/d"``.
        eps: Wanted positive.

    Raises:
        ValueError: If they are not.
    """
    if isinstance(off_diagonal_weight, str):
        check_choice("off_diagonal_weight", off_diagonal_weight, ("1/d",))
    else:
        check_weights(off_diagonal_weight=off_diagonal_weight)
    check_positive(eps=eps)


class BarlowTwins(Objective):
    """:func:`barlow_twins_loss` as a module.

    Args:
        off_diagonal_weight: Lambda, or ``"1/d"``.
        eps: Added to every variance.

    Example:
        >>> BarlowTwins("1/d").config
        {'off_diagonal_weight': '1/d', 'eps': 1e-05}
    """

    def __init__(self, off_diagonal_weight: float | Literal["1/d"] = 5e-3, eps: float = 1e-5) -> None:
        check_numbers(off_diagonal_weight, eps)
        super().__init__(off_diagonal_weight=off_diagonal_weight, eps=eps)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """As :func:`barlow_twins_loss`, shapes ``(N, d)``."""
        return barlow_twins_loss(a, b, **self.config)
