r"""CLIP's loss with wrong second views as more keys of every row (NegCLIP, Yuksekgonul et al., ICLR 2023).

.. math:: \ell = \frac{1}{2N} \sum_i \Bigl(
          -\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}} + \sum_{j,r} e^{s(q_i, w_{jr})}}
          -\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}} \Bigr)

A wrong view belongs to no first view, so it is a key but never asks for one: the second direction is CLIP's.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.objectives.contrast import Temperature
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import check_views, check_wrong


class NegCLIP(SoftmaxObjective):
    """Symmetric InfoNCE; the wrong views of all rows are negatives of every first view.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.

    Example:
        >>> import torch
        >>> x = torch.ones(4, 2)
        >>> round(NegCLIP()(x, x, x[:, None]).item(), 4)  # (log 8 + log 4) / 2
        1.7329
    """

    def __init__(self, temperature: Temperature = 0.1) -> None:
        super().__init__(temperature, "auto", None)

    def forward(self, first: Tensor, second: Tensor, wrong: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            wrong: Negatives made of each row, shape ``(N, R, d)``; all N R of them are keys of every row.
        """
        check_views(first=first, second=second)
        check_wrong(first, wrong)
        return self._contrast(first, second, symmetric=True, extra_negatives=wrong.flatten(0, 1))
