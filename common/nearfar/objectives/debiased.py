r"""Negatives without their share of positives (Chuang et al., NeurIPS 2020), hard ones weighted (HCL, ICLR 2021).

.. math:: \ell_i = -\log \frac{e^{s_{i \pi(i)}}}{e^{s_{i \pi(i)}} + M G_i}, \qquad
          G_i = \max\left( \frac{n_i - \tau^+ e^{s_{i \pi(i)}}}{1 - \tau^+}, \, e^{-1/\tau} \right), \qquad
          n_i = \frac{\sum_j e^{(1 + \beta) s_{ij}}}{\sum_j e^{\beta s_{ij}}}

with sums over the M = 2N - 2 rows of other samples in both views; for :math:`\beta = 0` :math:`n_i` is their mean. With
:math:`\tau^+ = 0` and :math:`\beta = 0` this is NT-Xent. Everything is a difference of logarithms, so that neither dot
products nor a tiny temperature overflow; gradients flow through the weights of hardness, as in the paper.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_choice, check_shares, check_temperature, check_weights
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import NotSame
from nearfar.objectives.joint import Selection
from nearfar.objectives.logsumexp import Backend, log_sum_exp, log_sum_exps
from nearfar.objectives.similarity import Comparison
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.temperature import inverse_temperature
from nearfar.objectives.views import at_least_float32, check_views

SIMILARITIES = ("cosine", "dot")


def debiased_loss(
    first: Tensor,
    second: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    tau_plus: float = 0.1,
    beta: float = 0.0,
    similarity: str = "cosine",
    backend: Backend = "auto",
) -> Tensor:
    """NT-Xent with corrected, and for positive ``beta`` hardness-weighted, negatives.

    Args:
        first: First view, shape ``(N, d)`` with N at least 2.
        second: Second view, same shape as ``first``.
        temperature: A positive number or scalar tensor.
        tau_plus: Share of positives assumed among the negatives, at least 0 and below 1.
        beta: How much hard negatives weigh, 0 for all the same.
        similarity: ``"cosine"``, or ``"dot"``, where the bound below is that of unit rows all the same.
        backend: As of ``contrast``.

    Returns:
        Scalar, the mean over the 2N rows. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> z = torch.ones(4, 2)
        >>> round(debiased_loss(z, z).item(), 4)  # equal rows: log 7, as NT-Xent
        1.9459
    """
    check_views(2, first=first, second=second)
    check_temperature(temperature)
    _check_numbers(tau_plus, beta, similarity)
    with torch.autocast(first.device.type, enabled=False):
        x = torch.cat([at_least_float32(first), at_least_float32(second)])
        scale = inverse_temperature(temperature, x)
        z = Comparison("dot" if similarity == "dot" else "cosine", scale).both(x)
        assert z is not None
        positive = (z * z.roll(len(first), 0)).sum(-1)
        mean = _log_mean(z, len(first), beta, backend)
        if tau_plus > 0:
            mean = _without_positives(mean, positive, tau_plus, -scale * torch.ones_like(mean))
        return F.softplus(math.log(len(x) - 2) + mean - positive).mean()


def _log_mean(z: Tensor, num_samples: int, beta: float, backend: Backend) -> Tensor:
    """Log of n of every row, shape ``(2N,)``."""
    others = NotSame(torch.arange(num_samples, device=z.device).repeat(2))
    if beta == 0:
        return log_sum_exp(z[None], None, others, backend=backend)[0][0] - math.log(len(z) - 2)
    selections = [Selection(others, 1 + beta), Selection(others, beta)]
    sharp, weight = log_sum_exps(z[None], None, selections, backend=backend)
    return (sharp - weight)[0]


def _without_positives(mean: Tensor, positive: Tensor, tau_plus: float, floor: Tensor) -> Tensor:
    """Log of (e^mean - tau_plus e^positive) / (1 - tau_plus), not below the floor; all of shape ``(2N,)``."""
    gap = positive - mean + math.log(tau_plus)
    left = gap < 0
    # log(1 - e^gap), with a number in place of those gaps that have no such logarithm, nor a gradient then.
    rest = torch.log(-torch.expm1(torch.where(left, gap, -1)))
    return torch.where(left, torch.maximum(mean + rest - math.log1p(-tau_plus), floor), floor)


def _check_numbers(tau_plus: float, beta: float, similarity: str) -> None:
    check_weights(beta=beta)
    check_shares(below_one=True, tau_plus=tau_plus)
    check_choice("similarity", similarity, SIMILARITIES)


class DebiasedInfoNCE(SoftmaxObjective):
    """:func:`debiased_loss` as a module.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        tau_plus: Share of positives assumed among the negatives.
        beta: How much hard negatives weigh.
        similarity: ``"cosine"`` or ``"dot"``.
        backend: As of ``contrast``.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> DebiasedInfoNCE(beta=1.0).config["beta"]
        1.0
    """

    def __init__(
        self,
        temperature: Temperature = 0.5,
        tau_plus: float = 0.1,
        beta: float = 0.0,
        *,
        similarity: str = "cosine",
        backend: Backend = "auto",
    ) -> None:
        _check_numbers(tau_plus, beta, similarity)
        super().__init__(temperature, backend, None, tau_plus=tau_plus, beta=beta, similarity=similarity)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """As :func:`debiased_loss`, shapes ``(N, d)``."""
        return debiased_loss(first, second, **self.config | {"temperature": self._current_temperature()})
