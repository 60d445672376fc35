r"""Supervised contrast of two views and a slow copy's view (CoACT, few-shot class-incremental learning).

.. math:: \ell = \mathrm{SupCon}\bigl( [z_1, z_2, \mathrm{sg}(t_2)], [y, y, y] \bigr)

All 3 N rows are anchors, as in the released code: as an anchor a row of the slow copy (t) moves the student's rows
towards itself and has no gradient of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_ids
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import check_views


class CoACT(SoftmaxObjective):
    """SupCon over student, student, teacher.

    Args:
        temperature: A positive number, or a module that returns one.

    Example:
        >>> x, labels = torch.ones(4, 2), torch.tensor([0, 0, 1, 1])
        >>> round(CoACT()(x, x, x, labels).item(), 4)  # log 11
        2.3979
    """

    def __init__(self, temperature: Temperature = 0.07) -> None:
        super().__init__(temperature, "auto", None)

    def forward(self, first: Tensor, second: Tensor, target_second: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            target_second: The second view through a slow copy, same shape as ``first``; no gradient reaches it.
            labels: int64, shape ``(N,)``; a negative one leaves its rows without positives, and as keys only.

        Raises:
            ValueError: If a shape or dtype does not fit, or all labels are negative.
        """
        check_views(first=first, second=second, target_second=target_second)
        check_ids("labels", labels, len(first))
        return self._contrast(torch.cat([first, second, target_second.detach()]), positives=labels.repeat(3))
