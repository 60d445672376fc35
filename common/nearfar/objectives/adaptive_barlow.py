r"""Barlow Twins with a temperature for every element (AMCL, Wang et al., ECCV 2024, eq. 2.3).

With the cross-correlation C of :func:`nearfar.objectives.barlow_twins.cross_correlation`,

.. math:: \ell = \sum_l \left( 1 - \frac{C_{ll}}{\tau_{ll}} \right)^2
          + \lambda \sum_{l \neq m} \frac{C_{lm}^2}{\tau_{lm}}
          + \beta \sum_l \Omega(\tau_{ll}) - \beta \sum_{l \neq m} \Omega(\tau_{lm}), \qquad
          \Omega(\tau) = \frac{d}{2} \log \tau + \frac1\tau

For temperatures of 1 and beta = 0 it is Barlow Twins. Learned, they weaken it: the diagonal asks for a correlation of
:math:`\tau_{ll}` and no more, which :math:`\Omega`, least at 2 / d, draws there, so beta is small by default, where
AMCL's is 0.1. Beside the diagonal the sign is turned: those temperatures run from 2 / d to the ends of their interval.

Differs from AMCL, which makes temperatures of pairs of samples: here there is one for every pair of features, learned
directly, as the sigmoid of a d x d parameter scaled to the interval (1e-5, 2).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nearfar.checks import check_counts, check_matrix, check_weights
from nearfar.objectives.amcl import temperature_energy
from nearfar.objectives.barlow_twins import check_numbers, cross_correlation
from nearfar.objectives.bounded_temperature import bounded_temperature, logit_of_temperature
from nearfar.objectives.objective import Objective
from nearfar.objectives.views import check_views


def adaptive_barlow_loss(
    first: Tensor,
    second: Tensor,
    temperature: Tensor,
    *,
    off_diagonal_weight: float | Literal["1/d"] = 5e-3,
    beta: float = 1e-3,
    eps: float = 1e-5,
) -> Tensor:
    """Distance of the views' cross-correlation matrix from the identity, each element at its own temperature.

    Args:
        first: First view, shape ``(N, d)`` with N at least 2; not normalised.
        second: Second view, same shape as ``first``.
        temperature: Positive, shape ``(d, d)``; that of element (l, m) of the matrix, and of the diagonal.
        off_diagonal_weight: Lambda; ``"1/d"`` as of ``barlow_twins_loss``.
        beta: Of the temperatures' energies.
        eps: Added to every variance.

    Returns:
        Scalar. Half precision and autocast are computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> a = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(adaptive_barlow_loss(a, -a, torch.ones(2, 2), beta=0.0).item(), 3)  # 2 * (1 + 1)^2
        8.0
        >>> round(adaptive_barlow_loss(a, a, torch.full((2, 2), 0.5), beta=0.0).item(), 3)  # 2 * (1 - 2)^2
        2.0
    """
    check_views(2, first=first, second=second)
    check_numbers(off_diagonal_weight, eps)
    check_weights(beta=beta)
    dim = first.shape[1]
    _check_temperature(temperature, dim)
    weight = 1 / dim if isinstance(off_diagonal_weight, str) else off_diagonal_weight
    with torch.autocast(first.device.type, enabled=False):
        correlation = cross_correlation(first, second, eps)
        tau = temperature.to(correlation)
        on_diagonal = (1 - correlation.diagonal() / tau.diagonal()).square().sum()
        off_diagonal = (correlation.square() / tau).fill_diagonal_(0).sum()
        energy = temperature_energy(tau, dim)
        return on_diagonal + weight * off_diagonal + beta * (2 * energy.diagonal().sum() - energy.sum())


def _check_temperature(temperature: Tensor, dim: int) -> None:
    check_matrix("temperature", temperature, shape="(d, d)")
    if temperature.shape != (dim, dim):
        raise ValueError(f"temperature: ({dim}, {dim}) expected, got shape {tuple(temperature.shape)}")
    if temperature.device.type == "cpu" and not bool((temperature > 0).all()):
        raise ValueError(f"temperature: positive numbers expected, got {temperature.min().item()}")


class AdaptiveBarlow(Objective):
    """:func:`adaptive_barlow_loss` with learned temperatures.

    Args:
        dim: Features of the views.
        off_diagonal_weight: Lambda, or ``"1/d"``.
        beta: Of the temperatures' energies.
        initial_temperature: Where all temperatures start; below ``2 / dim`` most of them fall to the lower end.
        eps: Added to every variance.

    Attributes:
        logits: What is learned, shape ``(dim, dim)``.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> loss = AdaptiveBarlow(2, beta=0.0)
        >>> round(loss(x, -x).item(), 3)  # as Barlow Twins at first
        8.0
    """

    def __init__(
        self,
        dim: int,
        off_diagonal_weight: float | Literal["1/d"] = 5e-3,
        beta: float = 1e-3,
        *,
        initial_temperature: float = 1.0,
        eps: float = 1e-5,
    ) -> None:
        check_counts(dim=dim)
        check_numbers(off_diagonal_weight, eps)
        check_weights(beta=beta)
        logit = logit_of_temperature("initial_temperature", initial_temperature)
        super().__init__(
            dim=dim,
            off_diagonal_weight=off_diagonal_weight,
            beta=beta,
            initial_temperature=initial_temperature,
            eps=eps,
        )
        self.logits = nn.Parameter(torch.full((dim, dim), logit))

    def temperature(self) -> Tensor:
        """The temperatures as they are, shape ``(dim, dim)``."""
        return bounded_temperature(self.logits)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, dim)`` with N at least 2.
            second: Second view, same shape as ``first``.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(2, self.config["dim"], first=first, second=second)
        numbers = {name: self.config[name] for name in ("off_diagonal_weight", "beta", "eps")}
        return adaptive_barlow_loss(first, second, self.temperature(), **numbers)
