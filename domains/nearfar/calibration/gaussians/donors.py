"""Which head classes lend their statistics to a tail class, and how much each of them (RCAL, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_choice

WEIGHTINGS = ("paper", "inverse", "uniform")
# Of the largest squared distance: a donor at distance 0 has a large weight and not an infinite one.
EPS = 1e-12


def nearest_heads(means: Tensor, heads: Tensor, tails: Tensor, q: int) -> tuple[Tensor, Tensor]:
    """The head classes with the nearest means, for every tail class.

    Args:
        means: Means of all classes, shape ``(K, m)``.
        heads: Head classes, int64, shape ``(H,)``.
        tails: Classes that look for donors, int64, shape ``(T,)``.
        q: Donors of each; all heads where there are fewer.

    Returns:
        Classes of the donors, int64, shape ``(T, min(q, H))``, nearest first, of equals the one that ``heads`` has
        first; and their squared distances, same shape.

    Raises:
        ValueError: If ``q`` is below 1.

    Example:
        >>> means = torch.tensor([[0.0], [9.0], [2.0]])
        >>> donors, squared = nearest_heads(means, torch.tensor([0, 1]), torch.tensor([2]), q=3)
        >>> donors.tolist(), squared.tolist()
        ([[0, 1]], [[4.0, 49.0]])
    """
    if q < 1:
        raise ValueError(f"q: at least 1 expected, got {q}")
    # The product form would lose the digits of near classes.
    apart = torch.cdist(means[tails], means[heads], compute_mode="donot_use_mm_for_euclid_dist").square()
    squared, places = apart.sort(dim=1, stable=True)
    return heads[places[:, :q]], squared[:, :q]


def donor_weights(squared: Tensor, counts: Tensor, weighting: str = "paper") -> Tensor:
    """Weights of donors, each row non-negative and of sum 1; all equal in a row of zero distances.

    The formula of the paper gives a farther donor the larger weight, against the reason it gives (classes near by have
    similar statistics). ``"inverse"`` is what that reason asks for; ``"uniform"`` is the rule of Yang, Liu and Xu
    ("Free Lunch for Few-shot Learning", ICLR 2021).

    Args:
        squared: Squared distances d^2 from the class to its donors, shape ``(T, q)``.
        counts: Items n of the donors, shape ``(T, q)``.
        weighting: ``"paper"`` (proportional to n d^2), ``"inverse"`` (to n / d^2) or ``"uniform"``.

    Returns:
        Shape ``(T, q)``, dtype of ``squared``.

    Raises:
        ValueError: If ``weighting`` is another word.

    Example:
        >>> weights = donor_weights(torch.tensor([[1.0, 9.0]]), torch.tensor([[100, 50]]))
        >>> [round(weight, 4) for weight in weights[0].tolist()]  # 100 and 450 of 550
        [0.1818, 0.8182]
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    largest = squared.amax(1, keepdim=True) if squared.numel() else squared[:, :1]
    # Weights do not depend on the unit; in that of the largest distance nothing overflows or vanishes.
    scaled = squared / torch.where(largest > 0, largest, torch.ones_like(largest))
    if weighting == "paper":
        raw = counts * scaled
    elif weighting == "inverse":
        raw = counts / (scaled + EPS)
    else:
        raw = torch.ones_like(scaled)
    raw = torch.where(largest > 0, raw, torch.ones_like(raw))
    return raw / raw.sum(1, keepdim=True)
