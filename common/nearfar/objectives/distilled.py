r"""Rank a teacher's hardest candidates as it does (dynamic contrastive distillation, Rao et al., TMM 2023).

Row b has C candidates: its own key and those the teacher finds most like it. With the teacher's logits t and the
student's s over them,

.. math:: \ell = \alpha T^2 \sum_b w_b \frac1C \sum_c (t_{bc} - s_{bc})^2
          + (1 - \alpha) \sum_b v_b \, \mathrm{BCE}(s_b, \text{own key})

T is the teacher's temperature: its square makes the first term one of cosines. Weights add up to one and
receive no gradient. By entropy: v is a row's share of the entropies of the teacher's softmax, and
w = softmax((1 - v)^2): what the teacher is unsure about is learned from the data. Focal: w is a row's share of
1 - exp(-CE_s / CE_t), so that rows count in which the student is behind the teacher, and v = 1 / N.

Differs from the official code, which multiplies weights that add up to one by the mean over *all* rows, so that they
have no effect: here every row's own error is weighted.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_choice, check_counts, check_positive, check_shares
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.mined import candidate_cosines, positive_and_mined
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import check_teacher, check_views

Weighting: TypeAlias = Literal["entropy", "focal", "uniform"]


@torch.no_grad()
def row_weights(student: Tensor, teacher: Tensor, weighting: Weighting) -> tuple[Tensor, Tensor]:
    """How much each row counts in the distillation and in the ranking.

    Args:
        student: Logits of the candidates, the right one in column 0, shape ``(N, C)``.
        teacher: The teacher's, same shape as ``student``.
        weighting: As of :class:`DistilledInfoNCE`.

    Returns:
        Weights w and v, shape ``(N,)`` each, adding up to one. No gradient.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [9.0, -9.0]])  # the teacher doubts the first row only
        >>> w, v = row_weights(logits, logits, "entropy")
        >>> w, v.round(decimals=4)  # w: softmax of 0 and 1
        (tensor([0.2689, 0.7311]), tensor([1., 0.]))
    """
    equal = student.new_full(student.shape[:1], 1 / len(student))
    if weighting == "uniform":
        return equal, equal
    if weighting == "entropy":
        probability = teacher.softmax(1)
        v = _shares(torch.special.entr(probability).sum(1), equal)
        return ((1 - v).square()).softmax(0), v
    right = torch.zeros(len(student), dtype=torch.int64, device=student.device)
    loss, best = (F.cross_entropy(logits, right, reduction="none") for logits in (student, teacher))
    ratio = loss / best.clamp(min=torch.finfo(best.dtype).tiny)
    return _shares(-torch.expm1(-ratio), equal), equal


def _shares(x: Tensor, equal: Tensor) -> Tensor:
    total = x.sum()
    return torch.where(total > 0, x / total.clamp(min=torch.finfo(x.dtype).tiny), equal)


class DistilledInfoNCE(SoftmaxObjective):
    """Distillation of the teacher's logits over its hardest candidates, and ranking of the right one among them.

    Args:
        temperature: Of the student: a positive number, or a module that returns one.
        teacher_temperature: Of the teacher.
        alpha: Share of the distillation, in [0, 1].
        count: Candidates beside the right one.
        weighting: How rows are weighted: ``"entropy"``, ``"focal"`` or ``"uniform"``.

    Raises:
        ValueError: If a hyper-parameter is out of its range.

    Example:
        >>> x = torch.eye(4)
        >>> round(DistilledInfoNCE(alpha=1.0)(x, x, x, x).item(), 4)  # as the teacher does
        0.0
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        *,
        teacher_temperature: float = 0.1,
        alpha: float = 0.2,
        count: int = 7,
        weighting: Weighting = "entropy",
    ) -> None:
        check_positive(teacher_temperature=teacher_temperature)
        check_choice("weighting", weighting, get_args(Weighting))
        check_shares(alpha=alpha)
        check_counts(count=count)
        own = {"alpha": alpha, "count": count, "weighting": weighting}
        super().__init__(temperature, "auto", None, teacher_temperature=teacher_temperature, **own)
        self.teacher_temperature, self.alpha = teacher_temperature, alpha
        self.count, self.weighting = count, weighting

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)`` with N at least 2.
            second: Second view, same shape as ``first``.
            target_first: The first view through the teacher, shape ``(N, d')``; no gradient reaches it.
            target_second: The second view through the teacher, same shape as ``target_first``; no gradient reaches it.
        """
        check_views(min_rows=2, first=first, second=second)
        check_teacher(first, target_first=target_first, target_second=target_second)
        with torch.no_grad():
            candidates = positive_and_mined(target_first, target_second, self.count)
            teacher = candidate_cosines(target_first, target_second, candidates) / self.teacher_temperature
        student = candidate_cosines(first, second, candidates) / self._current_temperature()
        w, v = row_weights(student, teacher, self.weighting)
        right = F.pad(torch.ones_like(student[:, :1]), (0, student.shape[1] - 1))
        distillation = (w * (student - teacher).square().mean(1)).sum() * self.teacher_temperature**2
        ranking = F.binary_cross_entropy_with_logits(student, right, reduction="none").mean(1)
        return self.alpha * distillation + (1 - self.alpha) * (v * ranking).sum()
