"""Positives given as a matrix of weights, for small N."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator import Mask, Rule
from nearfar.objectives.positives.resolved import Resolved, check_pair_weights, mean_logit, only_alone
from nearfar.objectives.ranks import Ranks


@dataclass(frozen=True, eq=False)
class _Dense:
    weights: Tensor
    always = single = local = False

    @property
    def rule(self) -> Rule:
        return Mask(self.weights != 0)

    def logit(self, a: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.weights.to(a)
        weight = weights.sum(-1)
        return mean_logit(a, weights @ k, weight), weight.expand(a.shape[:-1])

    def gathered(self, ranks: Ranks) -> Resolved:
        return only_alone(self, ranks, "a weight matrix")


def matrix_of(
    weights: Tensor, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """Weights ``(N, M)`` as rows and as keys see them, no diagonal in self-contrast; Args as of ``resolve``.

    Raises:
        ValueError: If the shape does not fit or a weight is negative or not finite.
    """
    if weights.shape not in ((num_rows, num_keys), (*lead, num_rows, num_keys)):
        raise ValueError(
            f"positives: weights of shape {(*lead, num_rows, num_keys)} expected, got {tuple(weights.shape)}"
        )
    check_pair_weights("weights", weights)
    if weights.dim() > 2:
        weights = weights.flatten(0, -3)
    if itself:
        weights = weights * ~torch.eye(num_rows, dtype=torch.bool, device=weights.device)
    return _Dense(weights), _Dense(weights.mT)
