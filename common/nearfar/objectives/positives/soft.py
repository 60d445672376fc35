"""Every key a positive with a low-rank weight; their sum is a low-rank product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import All, NotSelf, Rule
from nearfar.objectives.positives.resolved import Resolved, mean_logit, own_rows
from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Soft:
    r"""Soft low-rank weights :math:`w_{ij} = \alpha + \beta \langle a_i, b_j \rangle` for every key.

    With unit rows of a frozen encoder as ``a`` and ``b``, alpha = beta = 1/2 is the weight of CWCL
    (Srinivasa et al., NeurIPS 2023). In self-contrast a row is not its own positive.

    Attributes:
        alpha: Constant part.
        beta: Factor of the inner products.
        a: Features of the rows, shape ``(..., N, r)``.
        b: Features of the keys, shape ``(..., M, r)``.
    """

    alpha: float
    beta: float
    a: Tensor
    b: Tensor


@dataclass(frozen=True, eq=False)
class _Soft:
    soft: Soft
    itself: bool
    first: int = 0  # position of the first row among the keys, where rows are keys
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return NotSelf() if self.itself else All()

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.soft.alpha, self.soft.beta
        row, key = self.soft.a.to(a), self.soft.b.to(a)
        target = alpha * k.sum(-2, keepdim=True) + beta * row @ (key.mT @ k)
        weight = alpha * k.shape[-2] + beta * (row @ key.sum(-2)[..., None])[..., 0]
        # What cancels to this is rounding of zero.
        spread = (row.abs() @ key.abs().sum(-2)[..., None])[..., 0]
        floor = 32 * torch.finfo(a.dtype).eps * (abs(alpha) * k.shape[-2] + abs(beta) * spread)
        if self.itself:
            own = alpha + beta * (row * key[..., own_rows(self.first, a), :]).sum(-1)
            target, weight = target - own[..., None] * k[:, own_rows(self.first, a)], weight - own
        weight = torch.where(weight.abs() <= floor, 0, weight)
        if not weight.is_cuda and bool((weight < 0).any()):
            raise ValueError(
                "positives: Soft weights of a row that add up to 0 or more expected, got "
                f"{weight.min().item()}"
            )
        return mean_logit(a, target, weight), weight

    def gathered(self, ranks: Ranks) -> Resolved:
        if ranks.group is None:
            return self
        features = ranks.gather_keys(self.soft.b)
        return _Soft(
            Soft(self.soft.alpha, self.soft.beta, self.soft.a, features), self.itself, ranks.own_rows.start
        )


def soft_of(
    soft: Soft, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """Soft weights as rows and as keys see them; Args as of ``resolve``.

    Raises:
        ValueError: If a shape does not fit or a number is not finite.
    """
    if not (math.isfinite(soft.alpha) and math.isfinite(soft.beta)):
        raise ValueError(
            f"positives: finite Soft.alpha and Soft.beta expected, got {soft.alpha}, {soft.beta}"
        )
    for name, features, size in (("a", soft.a, num_rows), ("b", soft.b, num_keys)):
        fits = features.shape[:-1] in ((size,), (*lead, size))
        if not fits or features.shape[-1] != soft.a.shape[-1]:
            raise ValueError(
                f"positives: Soft.{name} of shape {(*lead, size, soft.a.shape[-1])} expected, got "
                f"{tuple(features.shape)}"
            )
        if not features.is_cuda and not bool(features.isfinite().all()):
            raise ValueError(f"positives: finite numbers expected in Soft.{name}")
    a, b = (x.flatten(0, -3) if x.dim() > 2 else x for x in (soft.a, soft.b))
    turned = Soft(soft.alpha, soft.beta, b, a)
    return _Soft(Soft(soft.alpha, soft.beta, a, b), itself), _Soft(turned, itself)
