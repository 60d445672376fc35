r"""Several contrasts of the same rows and keys, which differ in positives, denominator and temperature.

.. math:: \ell^t_i = \log \sum_{j \in A_t(i)} e^{s_{ij} / \tau^t_i}
          - \sum_{j \in P_t(i)} \frac{w^t_{ij}}{W^t_i} \frac{s_{ij}}{\tau^t_i}, \qquad
          s_{ij} = \mathrm{sim}(q_i, k_j)

Similarities are computed once for all terms, and so are the products of the gradient: what a term more costs is its
exponentials. Each term is what :func:`contrast` gives for it alone, to round-off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from nearfar.checks import check_choice, check_temperature
from nearfar.objectives.contrast import (
    OnEmpty,
    Reduction,
    check_combination,
    check_tensors,
    inverse_temperature,
)
from nearfar.objectives.denominator import Rule
from nearfar.objectives.direction import reduce
from nearfar.objectives.logsumexp import BACKENDS, Backend
from nearfar.objectives.positives import Positives
from nearfar.objectives.problem import Problem
from nearfar.objectives.similarity import SIMILARITIES, Comparison, Similarity

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True, eq=False)
class Term:
    """What one contrast makes of the similarities; the attributes are arguments of :func:`contrast`.

    Attributes:
        positives: Which keys are positives of which rows.
        denominator: Keys a row is compared with.
        temperature: Positive number, or a tensor without gradient: a scalar or one a row, ``(N,)``.
        include_positive: Whether positives stay in the denominator.
    """

    positives: Positives = "paired"
    denominator: Rule | None = None
    temperature: float | Tensor = 0.1
    include_positive: bool = True


def contrast_terms(
    q: Tensor,
    k: Tensor | None = None,
    *,
    terms: Sequence[Term],
    similarity: Similarity = "cosine",
    on_empty: OnEmpty = "raise",
    reduction: Reduction = "mean",
    group: ProcessGroup | None = None,
    backend: Backend = "auto",
) -> list[Tensor]:
    """One loss a term, from one matrix of similarities; add them up with the weights they are to have.

    In self-contrast with symmetric rules half of the similarities are computed, temperatures of the rows' own included,
    where :func:`contrast` needs all. Between processes every process compares its rows with all keys.

    Args:
        q: Anchors, shape ``(..., N, d)``, as of :func:`contrast`.
        k: Keys, shape ``(..., M, d)``; ``None`` contrasts ``q`` with itself.
        terms: What to compute. The first temperature that is one for all rows costs nothing, others a pass over the
            logits. Temperatures get no gradient, and one that asks for it is refused.
        similarity: As of :func:`contrast`.
        on_empty: As of :func:`contrast`, for each term.
        reduction: As of :func:`contrast`.
        group: As of :func:`contrast`.
        backend: As of :func:`contrast`; ``"triton"`` computes similarities inside its kernels, for each term again.

    Returns:
        A loss for every term, scalar, or ``(..., N)`` with ``reduction="none"``.

    Raises:
        ValueError: If an argument does not fit, or no row of a term has a positive and a denominator.

    Example:
        >>> from nearfar.objectives.denominator import NotSame
        >>> z, ids = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> pull = Term(ids, temperature=1.0)
        >>> spread = Term(("paired", 2), NotSame(ids), temperature=1.0)
        >>> [round(loss.item(), 4) for loss in contrast_terms(z, terms=[pull, spread])]  # log 3, log 2
        [1.0986, 0.6931]
    """
    check_choice("similarity", similarity, SIMILARITIES)
    check_choice("reduction", reduction, get_args(Reduction))
    check_choice("on_empty", on_empty, get_args(OnEmpty))
    check_choice("backend", backend, BACKENDS)
    first, *rest = _checked(terms)
    check_tensors(q, k, temperature=first.temperature)
    check_combination(q, k, group=group)
    for term in rest:
        check_temperature(term.temperature, q.shape[:-1])
    with torch.autocast(q.device.type, enabled=False):
        common, scales = _scales([first.temperature, *(term.temperature for term in rest)], q)
        problem = Problem.of(
            q,
            k,
            first.positives,
            first.denominator,
            Comparison(similarity, common),
            symmetric=False,
            include_positive=first.include_positive,
            key_log_weight=None,
            row_weight=None,
            extra_negatives=None,
            queue=None,
            group=group,
        )
        others = [
            problem.asked(
                term.positives, term.denominator, q.shape[:-2], include_positive=term.include_positive
            )
            for term in rest
        ]
        directions = problem.jointly(others, scales, backend)
        if on_empty == "raise":
            for direction in directions:
                direction.check_not_empty(problem.ranks)
        losses = [reduce([direction], reduction, problem.ranks) for direction in directions]
        if on_empty == "raise":
            losses = [
                direction.marked(loss, problem.ranks)
                for direction, loss in zip(directions, losses, strict=True)
            ]
        return [loss.reshape(q.shape[:-1]) for loss in losses] if reduction == "none" else losses


def _checked(terms: Sequence[Term]) -> Sequence[Term]:
    if not terms or not all(isinstance(term, Term) for term in terms):
        raise ValueError(f"terms: at least one Term expected, got {terms!r}")
    for term in terms:
        if isinstance(term.temperature, Tensor) and term.temperature.requires_grad:
            raise ValueError(
                "terms: temperatures without gradient expected, got one that requires it; detach it, or call "
                "contrast() for every term"
            )
    return terms


def _scales(temperatures: Sequence[float | Tensor], q: Tensor) -> tuple[float | Tensor, list[float | Tensor]]:
    """The scale that goes into the operands, and the factor that is left for every term.

    The first is a number or a scalar tensor, a factor a number or ``(B or 1, N or 1)``.
    """
    scales = [inverse_temperature(temperature, q) for temperature in temperatures]
    one = (i for i, scale in enumerate(scales) if not isinstance(scale, Tensor) or scale.dim() == 0)
    place = next(one, None)
    common = 1.0 if place is None else scales[place]
    factors: list[float | Tensor] = []
    for i, scale in enumerate(scales):
        factor = 1.0 if i == place else scale / common
        factors.append(
            factor.reshape(-1, factor.shape[-2] if factor.dim() else 1)
            if isinstance(factor, Tensor)
            else factor
        )
    return common, factors
