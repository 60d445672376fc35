r"""Same for two views, spread over the batch, decorrelated (VICReg, Bardes et al., ICLR 2022, eq. 1-6).

.. math:: \ell = 25 \cdot \frac{1}{Nd} \|A - B\|^2 + 25 \cdot f \, (v(A) + v(B)) + c(A) + c(B)

.. math:: v(X) = \frac{1}{d} \sum_l \max\left(0, 1 - \sqrt{\mathrm{Var}(x_l) + \epsilon}\right), \qquad
          c(X) = \frac{1}{d} \sum_{l \neq m} \mathrm{Cov}(X)_{lm}^2

with unbiased variances and covariances (N - 1). Unit rows have features of deviation about
:math:`1/\sqrt{d}`, which the hinge can never bring to 1: do not normalise what goes in.

Differs from the paper: its text adds the variance terms of the views (f = 1), its code and most libraries
average them (f = 1/2, the default here); its text sums the squared differences over features where its code,
followed here, takes their mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_positive, check_weights
from nearfar.objectives.objective import Objective
from nearfar.objectives.views import at_least_float32, check_views


def vicreg_loss(
    a: Tensor,
    b: Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
    variance_factor: float = 0.5,
    eps: float = 1e-4,
) -> Tensor:
    """Weighted sum of invariance, variance and covariance terms of two views.

    Args:
        a: First view, shape ``(N, d)`` with N at least 2; never normalised.
        b: Second view, same shape as ``a``.
        invariance_weight: Of the mean squared difference.
        variance_weight: Of the variance terms.
        covariance_weight: Of the covariance terms, which are always added over the views.
        variance_factor: On the sum of the two variance terms: 0.5 averages (code), 1 adds them (text).
        eps: Added to every variance; positive, so that a constant feature has a finite gradient.

    Returns:
        Scalar. Half precision and autocast are computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, or a number is out of range.

    Example:
        >>> collapsed = torch.ones(4, 3)
        >>> round(vicreg_loss(collapsed, collapsed).item(), 4)  # 25 * (1 - sqrt(0.0001))
        24.75
        >>> round(vicreg_loss(collapsed, collapsed, variance_factor=1.0).item(), 4)
        49.5
    """
    check_views(2, a=a, b=b)
    _check_numbers(invariance_weight, variance_weight, covariance_weight, variance_factor, eps)
    with torch.autocast(a.device.type, enabled=False):
        a, b = at_least_float32(a), at_least_float32(b)
        spread = _variance_hinge(a, eps) + _variance_hinge(b, eps)
        return (
            invariance_weight * F.mse_loss(a, b)
            + variance_weight * variance_factor * spread
            + covariance_weight * (_covariance_energy(a) + _covariance_energy(b))
        )


def _variance_hinge(x: Tensor, eps: float) -> Tensor:
    return F.relu(1 - (x.var(0) + eps).sqrt()).mean()


def _covariance_energy(x: Tensor) -> Tensor:
    centered = x - x.mean(0)
    covariance = centered.mT @ centered / (len(x) - 1)
    return covariance.square().fill_diagonal_(0).sum() / x.shape[1]


def _check_numbers(
    invariance_weight: float,
    variance_weight: float,
    covariance_weight: float,
    variance_factor: float,
    eps: float,
) -> None:
    check_weights(
        invariance_weight=invariance_weight,
        variance_weight=variance_weight,
        covariance_weight=covariance_weight,
        variance_factor=variance_factor,
    )
    check_positive(eps=eps)


class VICReg(Objective):
    """:func:`vicreg_loss` as a module.

    Args:
        invariance_weight: Of the mean squared difference.
        variance_weight: Of the variance terms.
        covariance_weight: Of the covariance terms.
        variance_factor: On the sum of the two variance terms.
        eps: Added to every variance.

    Example:
        >>> VICReg(covariance_weight=2.0).config["covariance_weight"]
        2.0
    """

    def __init__(
        self,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
        *,
        variance_factor: float = 0.5,
        eps: float = 1e-4,
    ) -> None:
        _check_numbers(invariance_weight, variance_weight, covariance_weight, variance_factor, eps)
        super().__init__(
            invariance_weight=invariance_weight,
            variance_weight=variance_weight,
            covariance_weight=covariance_weight,
            variance_factor=variance_factor,
            eps=eps,
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """As :func:`vicreg_loss`, shapes ``(N, d)``."""
        return vicreg_loss(a, b, **self.config)
