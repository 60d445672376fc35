r"""Predict the teacher's view, in a batch enlarged by near rows of a memory (BECLR, ICLR 2024, section 3).

.. math:: \ell = -\frac{1}{2 |E|} \sum_{r \in E} \left( \cos(p_{1,r}, \mathrm{sg}[t_{2,r}])
          + \cos(p_{2,r}, \mathrm{sg}[t_{1,r}]) \right)
          + \lambda \log \frac{1}{2N (2N - 2)} \sum_{i} \sum_{j \neq i, \pi(i)} e^{\cos(z_i, z_j) / \tau}

p are predictions from the student's views z, t the teacher's views, pi(i) is the other view of row i. E are the N
rows of the batch and, once memories are full, k rows for each: those the :class:`DyCEMemory` of the student holds near
z_1 (and near z_2) and that of the teacher near t_2 (and near t_1), the nearest paired with the nearest. Rows of memory
are constants; the student's still pass the predictor, which learns from them.

Differs from the official code in its memory (see :mod:`nearfar.objectives.dyce`), and in that the spreading term sees
the rows of the batch only: there, entries that were masked out are counted as exp(0) = 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.checks import check_positive, check_weights
from nearfar.encoders import MLP
from nearfar.objectives.byol import byol_loss
from nearfar.objectives.denominator import NotSelf
from nearfar.objectives.dyce import DyCEMemory
from nearfar.objectives.logsumexp import log_sum_exp
from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import Comparison
from nearfar.objectives.step_count import StepCount
from nearfar.objectives.views import at_least_float32, check_views


class BECLR(StepCount, Objective):
    """Negative cosine to a slow teacher, over rows of the batch and of two memories.

    Call :meth:`after_step` after every step of the optimiser: it puts the rows of the last call into the memories.

    Args:
        dim: Width of a row, d.
        capacity: Rows a memory holds; two come from each row of a batch.
        prototypes: Clusters of a memory.
        neighbours: Rows of memory for each of the batch, k; 0 for none.
        temperature: Of the spreading term.
        weight: Of the spreading term, lambda; 0 leaves it out.
        hidden: Width of the predictor's hidden layer; ``None`` for ``4 * dim``.
        start: Steps before the batch is enlarged, even if memories are full.
        seed: Of the memories' k-means.

    Attributes:
        predictor: From the student's space to the teacher's.
        student: Memory of the student's rows.
        teacher: Memory of the teacher's rows, in the same order.
        steps: Calls of :meth:`after_step` so far.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> x = torch.eye(3)
        >>> BECLR(3, capacity=8, prototypes=2)(x, x, x, x).shape
        torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        *,
        capacity: int = 1024,
        prototypes: int = 32,
        neighbours: int = 3,
        temperature: float = 2.0,
        weight: float = 0.1,
        hidden: int | None = None,
        start: int = 0,
        seed: int = 0,
    ) -> None:
        check_positive(temperature=temperature)
        check_weights(weight=weight)
        if not 0 <= neighbours <= capacity:
            raise ValueError(f"neighbours: 0 to capacity={capacity} expected, got {neighbours}")
        if start < 0:
            raise ValueError(f"start: 0 steps or more expected, got {start}")
        super().__init__(
            dim=dim,
            capacity=capacity,
            prototypes=prototypes,
            neighbours=neighbours,
            temperature=temperature,
            weight=weight,
            hidden=hidden,
            start=start,
            seed=seed,
        )
        self.student, self.teacher = (
            DyCEMemory(capacity, dim, prototypes=prototypes, seed=seed) for _ in range(2)
        )
        # A narrow layer of ReLUs can be dead for a row, whose prediction is then zero and has no direction.
        self.predictor = MLP(dim, (4 * dim if hidden is None else hidden, dim))
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: The student's first view, shape ``(N, d)``, N at least 2, not normalised.
            second: Its second view, same shape; row i shows the sample of row i of ``first``.
            target_first: The teacher's first view, same shape; no gradient reaches it.
            target_second: The teacher's second view, same shape.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        views = {
            "first": first,
            "second": second,
            "target_first": target_first,
            "target_second": target_second,
        }
        check_views(2, self.config["dim"], **views)
        with torch.autocast(first.device.type, enabled=False):
            z1, z2, t1, t2 = map(at_least_float32, views.values())
            self._seen = torch.cat([z1, z2]).detach(), torch.cat([t1, t2]).detach()
            p1, p2 = (self.predictor(self._enlarged(z, self.student)) for z in (z1, z2))
            t1, t2 = (self._enlarged(t, self.teacher).to(p1.dtype) for t in (t1, t2))
            # BYOL's distance is 2 - 2 cos, averaged over both directions.
            loss = byol_loss(p1, t2, p2, t1) / 2 - 1
            weight = self.config["weight"]
            return loss + weight * spread(z1, z2, temperature=self.config["temperature"]) if weight else loss

    def _enlarged(self, z: Tensor, memory: DyCEMemory) -> Tensor:
        k = self.config["neighbours"]
        if k == 0 or self.steps < self.config["start"] or not memory.is_full:
            return z
        return torch.cat([z, memory.neighbours(z, k).flatten(0, 1).to(z.dtype)])

    @torch.no_grad()
    def after_step(self) -> None:
        """Put the rows of the last call of :meth:`forward` into the memories, the student's and the teacher's alike."""
        if self._seen is not None:
            for memory, rows in zip((self.student, self.teacher), self._seen, strict=True):
                memory.enqueue(rows)
        self._seen = None
        self.steps += 1


def spread(z1: Tensor, z2: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Log of the mean exponential of the cosines of rows that are not views of one sample.

    Args:
        z1: First view, shape ``(N, d)`` with N at least 2.
        z2: Second view, same shape as ``z1``.
        temperature: What cosines are divided by.

    Returns:
        Scalar in [-1, 1] / temperature, in O(N tile) memory.

    Raises:
        ValueError: If a shape, dtype or the temperature does not fit.

    Example:
        >>> x = torch.ones(2, 3)
        >>> round(spread(x, x).item(), 4)  # all cosines are 1
        0.5
    """
    check_views(2, z1=z1, z2=z2)
    check_positive(temperature=temperature)
    size = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        x = Comparison("cosine", 1 / temperature).both(at_least_float32(torch.cat([z1, z2]))[None])
        assert x is not None
        lse, _ = log_sum_exp(x, None, NotSelf() & NotSelf(size) & NotSelf(-size))
        return lse.logsumexp(-1)[0] - math.log(2 * size * (2 * size - 2))
