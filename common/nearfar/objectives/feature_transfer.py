r"""Features spread as a teacher's are (NST, Huang and Wang, 2017, eq. 4; in VidLanKD, Tang et al., NeurIPS 2021).

.. math:: \ell = \mathrm{InfoNCE}(z_1, z_2) + \frac{\lambda}{2} \sum_{v=1,2} d^2(\tilde z_v, \tilde t_v)

d is the maximum mean discrepancy of :func:`nearfar.objectives.mmd.divergence` between unit rows of the student (z) and
of the teacher (t): it compares the two sets, not row with row, so that a student may put rows elsewhere as long as
all of them together look the same.

Differs from the papers: vectors are rows of a batch, where NST takes the channels of one feature map, and the kernel is
a sum of five Gaussians, where NST and VidLanKD take a polynomial.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.checks import check_weights
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.mmd import divergence
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views


class FeatureTransfer(SoftmaxObjective):
    """InfoNCE of two views, plus the discrepancy of each view's unit rows from those of the slow copy.

    Args:
        temperature: A positive number, or a module that returns one.
        weight: Of the discrepancy, the mean of both views.

    Raises:
        ValueError: If ``weight`` is negative.

    Example:
        >>> import torch
        >>> x = torch.ones(4, 2)
        >>> round(FeatureTransfer()(x, x, x, x).item(), 4)  # log 4
        1.3863
    """

    def __init__(self, temperature: Temperature = 0.1, *, weight: float = 1.0) -> None:
        check_weights(weight=weight)
        super().__init__(temperature, "auto", None, weight=weight)
        self.weight = weight

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            target_first: The first view through the teacher, same shape as ``first``; no gradient reaches it.
            target_second: The second view through the teacher, same shape as ``first``; no gradient reaches it.
        """
        check_views(first=first, second=second, target_first=target_first, target_second=target_second)
        apart = _discrepancy(first, target_first) + _discrepancy(second, target_second)
        return self._contrast(first, second) + self.weight / 2 * apart


def _discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = (smooth_normalize(at_least_float32(x)) for x in (student, teacher.detach()))
    return divergence(student, teacher)
