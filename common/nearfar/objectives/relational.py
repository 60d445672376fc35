r"""Be as like to others as the teacher is (relational distillation, as in SEED, Fang et al., ICLR 2021, eq. 3).

.. math:: \ell = \frac1N \sum_i \mathrm{KL}\Bigl( \mathrm{softmax}_j \frac{\cos(q^t_i, k^t_j)}{\tau_t} \,\Big\|\,
          \mathrm{softmax}_j \frac{\cos(q_i, k_j)}{\tau} \Bigr)

Teacher and student may be of different width. Both tables of cosines are made a few rows at a time, and again in the
backward pass.

Differs from the paper: a KL divergence (0 when both agree) rather than a cross-entropy, and keys are those of the
batch rather than of a queue.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_positive, check_temperature, check_weights
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_teacher, check_views


def relational_distillation(
    student_q: Tensor,
    student_k: Tensor,
    teacher_q: Tensor,
    teacher_k: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    teacher_temperature: float = 0.1,
    tile: int | None = None,
) -> Tensor:
    """Mean KL divergence of the student's distribution over keys from the teacher's.

    Args:
        student_q: Rows, shape ``(N, d)``.
        student_k: Keys, same shape as ``student_q``.
        teacher_q: The teacher's rows, shape ``(N, d')``; no gradient reaches them.
        teacher_k: The teacher's keys, same shape as ``teacher_q``; no gradient reaches them.
        temperature: Of the student: a positive number or a scalar tensor, which receives its gradient.
        teacher_temperature: Of the teacher.
        tile: Rows at a time; by default as many as fill one tile.

    Returns:
        Scalar of at least 0. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> x = torch.eye(3)
        >>> relational_distillation(x, x, 2 * x, x).item()
        0.0
    """
    check_views(student_q=student_q, student_k=student_k)
    check_teacher(student_q, teacher_q=teacher_q, teacher_k=teacher_k)
    check_temperature(temperature)
    check_positive(teacher_temperature=teacher_temperature)
    with torch.autocast(student_q.device.type, enabled=False):
        q, k = (smooth_normalize(at_least_float32(x)) for x in (student_q, student_k))
        shown, keys = (smooth_normalize(at_least_float32(x.detach())) for x in (teacher_q, teacher_k))

        def divergence(rows: Tensor, taught: Tensor) -> Tensor:
            wanted = (taught @ keys.T / teacher_temperature).log_softmax(1)
            found = (rows @ k.T / temperature).log_softmax(1)
            return (wanted.exp() * (wanted - found)).sum(1)

        return by_row_tiles(divergence, q, shown, width=2 * len(k), tile=tile).mean()


class Relational(SoftmaxObjective):
    """InfoNCE of two views, plus :func:`relational_distillation` of the first view's rows over the second's.

    Args:
        temperature: Of both terms: a positive number, or a module that returns one.
        teacher_temperature: Of the teacher.
        weight: Of the distillation.

    Raises:
        ValueError: If ``teacher_temperature`` is not positive or ``weight`` negative.

    Example:
        >>> x = torch.ones(4, 2)
        >>> round(Relational()(x, x, x, x).item(), 4)  # log 4
        1.3863
    """

    def __init__(
        self, temperature: Temperature = 0.1, *, teacher_temperature: float = 0.1, weight: float = 1.0
    ) -> None:
        check_positive(teacher_temperature=teacher_temperature)
        check_weights(weight=weight)
        super().__init__(temperature, "auto", None, teacher_temperature=teacher_temperature, weight=weight)
        self.teacher_temperature, self.weight = teacher_temperature, weight

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``.
            second: Second view, same shape as ``first``.
            target_first: The first view through the teacher, shape ``(N, d')``; no gradient reaches it.
            target_second: The second view through the teacher, same shape as ``target_first``; no gradient reaches it.
        """
        check_views(first=first, second=second)
        check_teacher(first, target_first=target_first, target_second=target_second)
        distillation = relational_distillation(
            first,
            second,
            target_first,
            target_second,
            temperature=self._current_temperature(),
            teacher_temperature=self.teacher_temperature,
        )
        return self._contrast(first, second) + self.weight * distillation
