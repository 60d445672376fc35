r"""Two Beta distributions mixed, fitted by expectation-maximisation: ProGCL's guess at false negatives.

Between-view similarities of negatives, brought to [0, 1], are a mixture of true negatives (component 0) and of false
ones, nodes of the same class (component 1; Xia et al., ICML 2022, after Arazo et al., ICML 2019). The
M step matches moments: with the weighted mean m and variance v of a component

.. math:: \alpha = m \Bigl(\frac{m (1 - m)}{v} - 1\Bigr), \qquad \beta = (1 - m) \Bigl(\frac{m (1 - m)}{v} - 1\Bigr)

Differs from the official code: likelihoods are compared as logarithms, where it adds 1e-12 to their sum, and
alpha + beta is kept in [1e-6, 1e8], so that equal values do not end in NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.objectives.views import at_least_float32

# Values this close to 0 or 1 are moved away: the density may be infinite there.
_EDGE = 1e-12
# No value is left to one component alone: an empty one would have no moments.
_LEAST_SHARE = 1e-12
_CONCENTRATION = (1e-6, 1e8)


@dataclass(frozen=True, eq=False)
class BetaMixture:
    """Two Beta distributions with weights.

    Attributes:
        alpha: First parameter of each, shape ``(2,)``.
        beta: Second parameter, shape ``(2,)``.
        weight: Share of each, shape ``(2,)``, of sum 1.
    """

    alpha: Tensor
    beta: Tensor
    weight: Tensor

    def posterior(self, values: Tensor, component: int = 0) -> Tensor:
        """Probability that a value is from a component.

        Args:
            values: In [0, 1], shape ``(...,)``; computed in their precision, at least float32.
            component: 0 or 1.

        Returns:
            Same shape as ``values``.

        Example:
            >>> ones, low = torch.ones(2), torch.tensor([2.0, 1.0])  # densities 2 x and 2 (1 - x)
            >>> mixture = BetaMixture(low, low.flip(0), ones / 2)
            >>> mixture.posterior(torch.tensor([0.25, 0.5])).tolist()
            [0.25, 0.5]
        """
        x = at_least_float32(values)
        x = x.clamp(min=_EDGE, max=1 - max(_EDGE, torch.finfo(x.dtype).eps / 2))
        other = 1 - component
        constant, power, mirrored = (
            (each[component] - each[other]).to(x) for each in (self._constant(), self.alpha, self.beta)
        )
        # Of two components a posterior is a logistic function of the log-odds. In place: this is done for all pairs.
        odds = x.log().mul_(power).add_((1 - x).log_().mul_(mirrored)).add_(constant)
        return odds.sigmoid_()

    def _constant(self) -> Tensor:
        """Logarithm of weight / B(alpha, beta), shape ``(2,)``."""
        a, b = self.alpha.double(), self.beta.double()
        return self.weight.double().log() - a.lgamma() - b.lgamma() + (a + b).lgamma()


@torch.no_grad()
def fit_beta_mixture(values: Tensor, steps: int = 10) -> BetaMixture:
    """Expectation-maximisation from Beta(1, 2) with weight 0.95 and Beta(2, 1) with weight 0.05.

    Args:
        values: In [0, 1], shape ``(m,)``.
        steps: Iterations.

    Returns:
        float64, on the device of ``values``.

    Raises:
        DataError: If there are no values, or (on the CPU) one is outside [0, 1].
    """
    _check(values)
    x = values.double().clamp(_EDGE, 1 - _EDGE)
    pair = x.new_tensor
    mixture = BetaMixture(pair([1.0, 2.0]), pair([2.0, 1.0]), pair([0.95, 0.05]))
    for _ in range(steps):
        mixture = _matched(x, mixture.posterior(x).clamp(_LEAST_SHARE, 1 - _LEAST_SHARE))
    return mixture


def _matched(x: Tensor, first: Tensor) -> BetaMixture:
    """The M step, given the share of component 0 in every value; both shapes ``(m,)``."""
    shares = torch.stack([first, 1 - first])
    weight = shares.sum(1)
    mean = shares @ x / weight
    variance = (shares * (x - mean[:, None]).square()).sum(1) / weight
    concentration = (mean * (1 - mean) / variance - 1).clamp(*_CONCENTRATION)
    alpha, beta = mean * concentration, (1 - mean) * concentration
    # The official code keeps the density of false negatives from rising without bound towards 1.
    is_second = torch.arange(2, device=x.device) == 1
    beta = torch.where(is_second & (beta < 1), 1.01, beta)
    return BetaMixture(alpha, beta, weight / len(x))


def _check(values: Tensor) -> None:
    if values.dim() != 1 or len(values) == 0 or not values.is_floating_point():
        raise DataError(
            f"values: floating point of shape (m,), m at least 1, expected, got {values.dtype} of {tuple(values.shape)}"
        )
    if values.device.type == "cpu" and not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(f"values: 0 to 1 expected, got {values.min():g} to {values.max():g}")
