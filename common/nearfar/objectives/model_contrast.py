r"""Contrasts of models that are trained apart (MOON, Li et al., CVPR 2021, eq. 3; CreamFL, Yu et al., ICLR 2023).

.. math:: \ell_i = -\log \frac{e^{s(z_i, p_i)}}{e^{s(z_i, p_i)} + e^{s(z_i, o_i)}}, \qquad
          w_{ci} = \mathrm{softmax}_c \log \frac{e^{s^c_{ii}}}{\sum_{j \neq i} e^{s^c_{ij}}}

The first keeps what a model makes of a row (z) near what a better one makes of it (p) and away from what it made
itself before (o). The second weighs clients c when their representations of a public row are averaged (CreamFL,
section 3.3): by how well a client tells the row from the others in the other modality, the loss of which is DCL's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_weights
from nearfar.objectives.contrast import Temperature, contrast
from nearfar.objectives.counterfactual import counterfactual_loss
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import check_more, check_views


def model_contrast_loss(
    z: Tensor, positive: Tensor, previous: Tensor, temperature: Temperature = 0.5
) -> Tensor:
    """Softplus of how much nearer the previous representation is than the positive.

    Args:
        z: Representations, shape ``(N, d)``.
        positive: What they are to be near, same shape as ``z``.
        previous: What they are to leave, same shape as ``z``; no gradient reaches it.
        temperature: As of :func:`contrast`.

    Returns:
        Scalar, the mean of the rows. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> z = torch.eye(2)
        >>> round(model_contrast_loss(z, z, z).item(), 4)  # log 2
        0.6931
    """
    check_views(z=z, positive=positive, previous=previous)
    return counterfactual_loss(z, positive, previous.detach()[:, None], temperature=temperature)


@torch.no_grad()
def aggregation_weights(local: Tensor, other: Tensor, temperature: float | Tensor = 0.1) -> Tensor:
    """How much each client counts when a row is averaged: a softmax over clients of minus their DCL loss.

    Args:
        local: Representations of the same rows by C clients, shape ``(C, N, d)`` with N at least 2.
        other: The rows in the other modality, shape ``(N, d)``.
        temperature: Of the cosines, a positive number or a scalar tensor.

    Returns:
        Shape ``(C, N)``; each row's weights add up to one. No gradient.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> rows = torch.eye(3)
        >>> aggregation_weights(torch.stack([rows, rows]), rows)[:, 0]  # equal clients
        tensor([0.5000, 0.5000])
    """
    check_views(min_rows=2, other=other)
    check_more("local", local, other, shape="(C, N, d)", least=1)
    losses = contrast(
        local,
        other.expand_as(local),
        temperature=temperature,
        include_positive=False,
        reduction="none",
    )
    return torch.softmax(-losses, 0)


class ModelContrast(SoftmaxObjective):
    """InfoNCE of two views, plus :func:`model_contrast_loss`: to the second view, away from the slow copy's.

    Args:
        temperature: Of both terms: a positive number, or a module that returns one.
        weight: Of the second term.

    Raises:
        ValueError: If ``weight`` is negative.

    Example:
        >>> x = torch.ones(4, 2)
        >>> round(ModelContrast()(x, x, x).item(), 4)  # log 4 + log 2
        2.0794
    """

    def __init__(self, temperature: Temperature = 0.5, *, weight: float = 1.0) -> None:
        check_weights(weight=weight)
        super().__init__(temperature, "auto", None, weight=weight)
        self.weight = weight

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            target_first: The first view through a slow copy, same shape as ``first``; no gradient reaches it.
        """
        check_views(first=first, second=second, target_first=target_first)
        temperature = self._current_temperature()
        away = model_contrast_loss(first, second, target_first, temperature)
        return self._contrast(first, second) + self.weight * away
