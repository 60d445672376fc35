r"""Tell the right key from wrong ones made of the same row (counting CLIP, Paiss et al., ICCV 2023).

.. math:: \ell_i = -\log \frac{e^{s(q_i, k_i)}}{e^{s(q_i, k_i)} + \sum_{r=1}^{R} e^{s(q_i, w_{ir})}},
          \qquad s(q, k) = \cos(q, k) / \tau

With one wrong key it is softplus of the difference of two logits. No other row takes part: what tells rows apart
cannot help, only what the wrong key changed.

Differs from the paper: any number of wrong keys a row, and every row has them, where there a subset of the batch does.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.checks import check_weights
from nearfar.objectives.contrast import Temperature, contrast
from nearfar.objectives.denominator import Nothing
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import check_views, check_wrong


def counterfactual_loss(
    anchor: Tensor, positive: Tensor, wrong: Tensor, *, temperature: Temperature = 0.1
) -> Tensor:
    """Negative log-probability of the positive among itself and the row's own wrong keys.

    Args:
        anchor: Shape ``(N, d)``; the rows are normalised here.
        positive: Same shape as ``anchor``.
        wrong: Each row's own negatives, shape ``(N, R, d)``.
        temperature: As of :func:`contrast`.

    Returns:
        Scalar, the mean of the rows; gradients reach all three. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> round(counterfactual_loss(x, x, x[:, None]).item(), 4)  # nothing to tell them by: log 2
        0.6931
    """
    check_views(anchor=anchor, positive=positive)
    check_wrong(anchor, wrong)
    return contrast(anchor, positive, denominator=Nothing(), extra_negatives=wrong, temperature=temperature)


class Counterfactual(SoftmaxObjective):
    """InfoNCE of two views, plus :func:`counterfactual_loss` of the first.

    Args:
        temperature: A positive number, or a module that returns one.
        weight: Of the counterfactual loss.

    Raises:
        ValueError: If ``weight`` is negative.

    Example:
        >>> import torch
        >>> x = torch.ones(4, 2)
        >>> round(Counterfactual()(x, x, x[:, None]).item(), 4)  # log 4 + log 2
        2.0794
    """

    def __init__(self, temperature: Temperature = 0.1, *, weight: float = 1.0) -> None:
        check_weights(weight=weight)
        super().__init__(temperature, "auto", None, weight=weight)
        self.weight = weight

    def forward(self, first: Tensor, second: Tensor, wrong: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            wrong: Negatives made of each row, shape ``(N, R, d)``.
        """
        check_views(first=first, second=second)
        check_wrong(first, wrong)
        temperature = self._current_temperature()
        hard = counterfactual_loss(first, second, wrong, temperature=temperature)
        return self._contrast(first, second) + self.weight * hard
