r"""Prefer the right one of two (BPR, Rendle et al., UAI 2009; DPO, Rafailov et al., NeurIPS 2023, eq. 7).

.. math:: \ell = -\frac{1}{N} \sum_i \log \sigma\bigl( \beta \, (\Delta^+_i - \Delta^-_i) \bigr), \qquad
          \Delta = s - s_{\mathrm{ref}}

s are scores of the right and of the wrong one; without a reference and with beta 1 it is BPR. A reference (the
scores of a frozen model) makes it a question of who got better rather than who is better.

Differs from the papers: BPR's penalty on the weights is left to the optimiser's weight decay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_positive
from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.runtime import to_device


def paired_logistic_loss(
    positive: Tensor,
    negative: Tensor,
    *,
    beta: float = 1.0,
    reference_positive: Tensor | None = None,
    reference_negative: Tensor | None = None,
) -> Tensor:
    """Softplus of by how much the wrong score exceeds the right one.

    Args:
        positive: Scores of the right ones, floating point, shape ``(...,)``.
        negative: Scores of the wrong ones, same shape as ``positive``.
        beta: Factor of the difference.
        reference_positive: What a fixed model gives the right ones, same shape as ``positive``; no gradient reaches it.
        reference_negative: What it gives the wrong ones, same shape; no gradient reaches it.

    Returns:
        Scalar, the mean of all pairs. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, ``beta`` is not positive, or only one reference is given.

    Example:
        >>> score = torch.zeros(3)
        >>> round(paired_logistic_loss(score, score).item(), 4)  # log 2
        0.6931
    """
    check_positive(beta=beta)
    given = {"positive": positive, "negative": negative}
    for name, score in given.items():
        _check_scores(name, score, positive)
    difference = at_least_float32(positive) - at_least_float32(negative)
    if reference_positive is not None and reference_negative is not None:
        _check_scores("reference_positive", reference_positive, positive)
        _check_scores("reference_negative", reference_negative, positive)
        reference = at_least_float32(reference_positive) - at_least_float32(reference_negative)
        difference = difference - reference.detach()
    elif reference_positive is not None or reference_negative is not None:
        missing = "reference_negative" if reference_negative is None else "reference_positive"
        raise ValueError(f"{missing}: scores expected, since the other reference is given, got None")
    return -F.logsigmoid(beta * difference).mean()


def _check_scores(name: str, scores: Tensor, like: Tensor) -> None:
    if not scores.is_floating_point() or scores.numel() == 0 or scores.shape != like.shape:
        raise ValueError(
            f"{name}: floating point of shape {tuple(like.shape)}, not empty, expected, got {scores.dtype} of shape "
            f"{tuple(scores.shape)}"
        )


class PairedLogistic(Objective):
    """:func:`paired_logistic_loss` of cosines; the wrong one is the second view of another row.

    Which other row is one random number a batch: row i is given row i + m modulo N for an m from 1 to N - 1.

    Args:
        beta: Factor of the difference of two cosines.

    Raises:
        ValueError: If ``beta`` is not positive.

    Example:
        >>> x = torch.ones(4, 2)
        >>> round(PairedLogistic()(x, x, torch.Generator()).item(), 4)  # log 2
        0.6931
    """

    def __init__(self, beta: float = 5.0) -> None:
        check_positive(beta=beta)
        super().__init__(beta=beta)
        self.beta = beta

    def forward(self, first: Tensor, second: Tensor, rng: torch.Generator) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)`` with N at least 2.
            second: Second view, same shape as ``first``.
            rng: A generator on the CPU.
        """
        check_views(min_rows=2, first=first, second=second)
        anchor, right = (smooth_normalize(at_least_float32(z)) for z in (first, second))
        shift = to_device(torch.randint(1, len(first), (1,), generator=rng), first.device)
        other = (torch.arange(len(first), device=first.device) + shift) % len(first)
        positive = (anchor * right).sum(-1)
        negative = (anchor * right.index_select(0, other)).sum(-1)
        return paired_logistic_loss(positive, negative, beta=self.beta)
