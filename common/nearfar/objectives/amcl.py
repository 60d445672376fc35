r"""Several heads, each with temperatures that fit the pair (AMCL, Wang et al., ECCV 2024).

.. math:: \ell_i = \sum_c \left[ -\frac{s^c_{i+}}{\tau^{c+}} + \mathrm{neg}^c_i
          + \beta \, \Omega(\tau^{c+}) - \beta \, \Omega(\tau^{c-}) \right], \qquad
          \Omega(\tau) = \frac{d}{2} \log \tau + \frac1\tau

with cosines s of head c. A small network shared by all heads makes a temperature in (1e-5, 2) of two feature vectors.
:math:`\Omega` comes from reading the positive as a Gaussian around the anchor: on the sphere its negative
log-likelihood is :math:`-s/\tau + \Omega(\tau)`, least at :math:`\tau = 2 (1 - s) / d`. For negatives the sign is
turned, so only the interval keeps their temperatures from 0.

``negatives="max"``, the paper's: :math:`\mathrm{neg}^c_i = s^c_{in} / \tau^{c-}` of the hardest negative n, with the
temperature of that pair. ``"lse"``: the log-sum-exp over the positive, at its own temperature, and the other rows of
the other view, at one temperature a row, made of the anchor twice: temperatures of all pairs would need all pairs in
memory. With one head, constant temperatures and beta = 0 that is InfoNCE.

Differs from the released code, which does not run: written from the table of formulas beside it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from nearfar.checks import check_choice, check_counts, check_weights
from nearfar.objectives.bounded_temperature import bounded_temperature, logit_of_temperature
from nearfar.objectives.denominator import NotSelf
from nearfar.objectives.direction import log_add
from nearfar.objectives.logsumexp import log_sum_exp
from nearfar.objectives.maxima import hardest_keys
from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views

Negatives: TypeAlias = Literal["lse", "max"]
Form: TypeAlias = Literal["pair", "row"]
HIDDEN = 128


def temperature_energy(temperature: Tensor, dim: int) -> Tensor:
    """Omega: half the dimension times log temperature, plus the inverse temperature.

    Args:
        temperature: Positive, any shape ``(..., N)``.
        dim: Features of a head.

    Returns:
        Same shape as ``temperature``.

    Example:
        >>> temperature_energy(torch.tensor(1.0), 8).item()
        1.0
    """
    return dim / 2 * temperature.log() + 1 / temperature


class PairTemperature(nn.Module):
    """A temperature between 1e-5 and 2 for pairs of feature vectors.

    Args:
        dim: Features of one vector.
        initial: About where temperatures start; exactly there while the last layer's weights are zero.

    Raises:
        ValueError: If ``initial`` is outside the interval.

    Example:
        >>> PairTemperature(4)(torch.ones(3, 4), torch.ones(3, 4)).shape
        torch.Size([3])
    """

    def __init__(self, dim: int, initial: float = 0.1) -> None:
        super().__init__()
        bias = logit_of_temperature("initial", initial)
        self.hidden, self.out = nn.Linear(2 * dim, HIDDEN), nn.Linear(HIDDEN, 1)
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.fill_(bias)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """One temperature a pair.

        Args:
            a: Shape ``(..., d)``.
            b: Same shape as ``a``.
        """
        logit: Tensor = self.out(self.hidden(torch.cat([a, b], -1)).relu())[..., 0]
        return bounded_temperature(logit)


class AMCL(Objective):
    """Adaptive multi-head contrastive loss, mean over rows and both directions, sum over heads.

    Args:
        dim: Features of the views.
        heads: How many projections are compared.
        head_dim: Features of each; ``None`` for ``dim``.
        beta: Of the temperatures' energies.
        negatives: ``"lse"`` for all other rows of the other view, ``"max"`` for the hardest of them.
        initial_temperature: About where temperatures start.
        form: ``"pair"`` makes the temperature of a positive (and with ``"max"`` of the hardest negative) from both
            vectors, ``"row"`` all of them from the anchor alone.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> loss = AMCL(4, heads=2)
        >>> loss(torch.eye(4), torch.eye(4)).shape
        torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        heads: int = 3,
        head_dim: int | None = None,
        beta: float = 0.1,
        *,
        negatives: Negatives = "lse",
        initial_temperature: float = 0.1,
        form: Form = "pair",
    ) -> None:
        head_dim = dim if head_dim is None else head_dim
        check_counts(dim=dim, heads=heads, head_dim=head_dim)
        check_weights(beta=beta)
        check_choice("negatives", negatives, get_args(Negatives))
        check_choice("form", form, get_args(Form))
        logit_of_temperature("initial_temperature", initial_temperature)  # to refuse it by its name
        super().__init__(
            dim=dim,
            heads=heads,
            head_dim=head_dim,
            beta=beta,
            negatives=negatives,
            initial_temperature=initial_temperature,
            form=form,
        )
        self.heads, self.beta, self.negatives, self.form = heads, beta, negatives, form
        self.project = nn.Linear(dim, heads * head_dim)
        self.temperature = PairTemperature(head_dim, initial_temperature)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, dim)`` with N at least 2.
            second: Second view, same shape as ``first``.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(2, self.config["dim"], first=first, second=second)
        with torch.autocast(first.device.type, enabled=False):
            a, b = (self._features(x) for x in (first, second))
            return (self._direction(a, b) + self._direction(b, a)) / 2

    def _features(self, x: Tensor) -> Tensor:
        """Unit features of every head, shape ``(heads, N, head_dim)``."""
        projected = self.project(at_least_float32(x))
        return smooth_normalize(projected.unflatten(-1, (self.heads, -1)).transpose(0, 1))

    def _direction(self, anchors: Tensor, keys: Tensor) -> Tensor:
        pairs = self.form == "pair"
        tau_pos = self.temperature(anchors, keys if pairs else anchors)
        positive = (anchors * keys).sum(-1) / tau_pos
        if self.negatives == "max":
            place = hardest_keys(anchors, keys, NotSelf())[..., None].expand_as(keys)
            hardest = keys.gather(1, place)
            tau_neg = self.temperature(anchors, hardest if pairs else anchors)
            negative = (anchors * hardest).sum(-1) / tau_neg
        else:
            tau_neg = self.temperature(anchors, anchors)
            others, _ = log_sum_exp(anchors / tau_neg[..., None], keys, NotSelf())
            negative = log_add(others, positive)
        dim = anchors.shape[-1]
        energy = temperature_energy(tau_pos, dim) - temperature_energy(tau_neg, dim)
        of_rows: Tensor = negative - positive + self.beta * energy
        return of_rows.mean(1).sum()
