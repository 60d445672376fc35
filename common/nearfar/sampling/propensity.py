r"""Pairs drawn by meaning, against what the surface suggests (after DebCSE, Miao et al., CIKM 2023).

.. math:: P(j \mid i) \propto \frac{v_{ij}^\gamma}{\max(e_{ij}, e_{\min})}, \qquad
          e_{i \cdot} = \mathrm{softmax}_j(u_{ij} / T_u)

v in [0, 1] says how alike rows are in meaning, u in [0, 1] how alike on the surface (length, degree, popularity); the
propensity e is the chance that a rule which sees the surface alone picks j for i. Dividing by it gives rows that are
close in meaning and far on the surface the chance that they would have without such a bias.

Differs from the paper: how it computes propensities could not be confirmed. This form, the bounds, and that negatives
are drawn with replacement are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.checks import (
    check_counts,
    check_features,
    check_matrix,
    check_positive,
    check_tensor,
    check_vector,
    check_weights,
)
from nearfar.runtime import to_device

SCORES = 2**22  # of all pairs, at a time


@dataclass(frozen=True)
class PairRule:
    """How pairs are drawn.

    Attributes:
        gamma: Exponent of the similarity of meaning; 0 ignores it.
        surface_temperature: T_u; a large one ignores the surface.
        floor: Smallest propensity that is divided by, e_min.
        top: A positive is one of so many rows, those most alike in meaning.
        guard: A negative is less alike in meaning than this; others may be positives that nobody labelled.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> PairRule(guard=0.8).top
        4
    """

    gamma: float = 1.0
    surface_temperature: float = 0.1
    floor: float = 1e-3
    top: int = 4
    guard: float = 0.9

    def __post_init__(self) -> None:
        check_weights(gamma=self.gamma)
        check_positive(surface_temperature=self.surface_temperature, floor=self.floor, guard=self.guard)
        check_counts(top=self.top)

    def weights(self, similarity: Tensor, surface: Tensor, candidates: Tensor) -> Tensor:
        """As :func:`propensity_weights`, unchecked; all of shape ``(n, m)``."""
        logits = (surface / self.surface_temperature).masked_fill(~candidates, -torch.inf)
        # A row without candidates has no maximum; nothing of it is left in the end.
        propensity = torch.softmax(logits.masked_fill(~candidates.any(1, keepdim=True), 0), 1)
        weight = similarity.clamp(min=0) ** self.gamma / propensity.clamp(min=self.floor)
        weight = weight.masked_fill(~candidates, 0)
        return weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)

    def positive(self, similarity: Tensor, surface: Tensor, candidates: Tensor, uniform: Tensor) -> Tensor:
        """As :func:`draw_positive`, unchecked; ``(n, m)``, and ``uniform`` of shape ``(n, 1)`` decides."""
        weight = self.weights(similarity, surface, candidates)
        hidden = similarity.masked_fill(~candidates, -torch.inf)
        most = hidden.topk(min(self.top, hidden.shape[1]), dim=1).indices
        return most.gather(1, _inverse(weight.gather(1, most), uniform))[:, 0]

    def negatives(self, similarity: Tensor, surface: Tensor, candidates: Tensor, uniform: Tensor) -> Tensor:
        """As :func:`draw_negatives`, unchecked; ``(n, m)``, and ``uniform`` of shape ``(n, R)`` decides."""
        weight = self.weights(similarity, surface, candidates & (similarity < self.guard))
        return _inverse(weight, uniform).masked_fill(~(weight > 0).any(1, keepdim=True), -1)


def _inverse(weight: Tensor, uniform: Tensor) -> Tensor:
    """Columns drawn in proportion to the weights, from numbers uniform on [0, 1)."""
    upto = weight.cumsum(1, dtype=torch.float64)
    place = torch.searchsorted(upto, uniform * upto[:, -1:], right=True)
    # Rounding may leave the product at the total; the last column with a weight is meant.
    last = (weight > 0).long().cumsum(1).argmax(1, keepdim=True)
    return torch.minimum(place, last)


def propensity_weights(
    similarity: Tensor,
    surface: Tensor,
    *,
    gamma: float = 1.0,
    surface_temperature: float = 0.1,
    floor: float = 1e-3,
    candidates: Tensor | None = None,
) -> Tensor:
    """Chances of being drawn: similarity in meaning over the propensity of the surface.

    Args:
        similarity: Of meaning, v, in [0, 1], shape ``(n, m)``.
        surface: Similarity on the surface, u, in [0, 1], same shape.
        gamma: Exponent of ``similarity``.
        surface_temperature: T_u.
        floor: Smallest propensity that is divided by.
        candidates: Which may be drawn at all, bool, same shape; the propensities are among them.

    Returns:
        Same shape; rows sum to 1, or to 0 where nothing can be drawn.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> similarity = torch.tensor([[0.6, 0.2]])
        >>> propensity_weights(similarity, torch.ones(1, 2))  # the surface says nothing
        tensor([[0.7500, 0.2500]])
    """
    rule = PairRule(gamma=gamma, surface_temperature=surface_temperature, floor=floor)
    return rule.weights(similarity, surface, _checked(similarity, surface, candidates))


def draw_positive(
    similarity: Tensor,
    surface: Tensor,
    generator: torch.Generator,
    *,
    rule: PairRule | None = None,
    candidates: Tensor | None = None,
) -> Tensor:
    """One of the rows most alike in meaning, by :func:`propensity_weights`.

    Args:
        similarity: Of meaning, in [0, 1], shape ``(n, m)``.
        surface: Similarity on the surface, in [0, 1], same shape.
        generator: Source of the draw.
        rule: How to draw; ``PairRule()`` by default.
        candidates: Which may be drawn at all, bool, same shape.

    Returns:
        Columns, int64, shape ``(n,)``; of no meaning where a row has no candidate.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> similarity = torch.tensor([[0.1, 0.9, 0.2]])
        >>> rng = torch.Generator().manual_seed(0)
        >>> draw_positive(similarity, torch.zeros(1, 3), rng, rule=PairRule(top=1)).tolist()
        [1]
    """
    allowed = _checked(similarity, surface, candidates)
    uniform = _uniform(len(similarity), 1, generator, similarity.device)
    return (rule or PairRule()).positive(similarity, surface, allowed, uniform)


def draw_negatives(
    similarity: Tensor,
    surface: Tensor,
    generator: torch.Generator,
    *,
    count: int,
    rule: PairRule | None = None,
    candidates: Tensor | None = None,
) -> Tensor:
    """Rows less alike in meaning than the guard, by :func:`propensity_weights`, with replacement.

    Args:
        similarity: Of meaning, in [0, 1], shape ``(n, m)``.
        surface: Similarity on the surface, in [0, 1], same shape.
        generator: Source of the draw.
        count: Negatives of a row, R.
        rule: How to draw; ``PairRule()`` by default.
        candidates: Which may be drawn at all, bool, same shape.

    Returns:
        Columns, int64, shape ``(n, R)``; -1 in a row where nothing can be drawn.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> similarity = torch.tensor([[0.95, 0.3, 0.99]])
        >>> draw_negatives(similarity, torch.zeros(1, 3), torch.Generator(), count=2).tolist()
        [[1, 1]]
    """
    check_counts(count=count)
    allowed = _checked(similarity, surface, candidates)
    uniform = _uniform(len(similarity), count, generator, similarity.device)
    return (rule or PairRule()).negatives(similarity, surface, allowed, uniform)


@torch.no_grad()
def draw_pairs(
    side: Tensor, surface: Tensor, generator: torch.Generator, *, count: int, rule: PairRule | None = None
) -> tuple[Tensor, Tensor]:
    """A positive and negatives for every row of a batch, some rows at a time.

    Args:
        side: What says how alike rows are in meaning, by (1 + cos) / 2, shape ``(N, p)``, N at least 2.
        surface: One score a row, of which the ranks count, shape ``(N,)``; see :func:`surface_similarity`.
        generator: Source of the draws; the same whatever the number of rows at a time.
        count: Negatives of a row, R.
        rule: How to draw; ``PairRule()`` by default.

    Returns:
        Rows of the batch: positives, int64, ``(N,)``, never the row itself; negatives, ``(N, R)``, neither the row nor
        its positive, -1 in a row where nothing can be drawn.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> side = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> positive, negatives = draw_pairs(
        ...     side, torch.zeros(3), torch.Generator(), count=2, rule=PairRule(top=1)
        ... )
        >>> positive.tolist(), negatives[0].tolist()
        ([1, 0, 1], [2, 2])
    """
    check_matrix("side", side, shape="(N, p)", min_rows=2)
    check_vector("surface", surface, torch.Size(), len(side), lowest=-torch.inf)
    check_counts(count=count)
    rule = rule or PairRule()
    unit = torch.nn.functional.normalize(side.to(torch.promote_types(side.dtype, torch.float32)), dim=1)
    uniform = _uniform(len(side), 1 + count, generator, side.device)
    ranks, own = _ranks(surface), torch.arange(len(side), device=side.device)
    positives, negatives = [], []
    for part in own.split(max(SCORES // len(side), 1)):
        similarity = ((1 + unit[part] @ unit.mT) / 2).clamp(0, 1)
        alike = surface_similarity(ranks[part], ranks).to(similarity.dtype)
        others = own != part[:, None]
        positive = rule.positive(similarity, alike, others, uniform[part, :1])
        others &= own != positive[:, None]
        positives.append(positive)
        negatives.append(rule.negatives(similarity, alike, others, uniform[part, 1:]))
    return torch.cat(positives), torch.cat(negatives)


def surface_similarity(ranks: Tensor, other: Tensor) -> Tensor:
    """One minus the distance of ranks, as a share of the largest distance there can be.

    Args:
        ranks: Of some rows among M, from 0 to M - 1, shape ``(n,)``.
        other: Of all M rows, shape ``(M,)``, M at least 2.

    Returns:
        In [0, 1], shape ``(n, M)``.

    Example:
        >>> surface_similarity(torch.tensor([0.0]), torch.tensor([0.0, 1.0, 2.0])).tolist()
        [[1.0, 0.5, 0.0]]
    """
    return 1 - (ranks[:, None] - other).abs() / (len(other) - 1)


def _ranks(surface: Tensor) -> Tensor:
    """Ranks from 0, equal scores at the mean of theirs."""
    order = surface.sort().values.contiguous()
    below = torch.searchsorted(order, surface.contiguous())
    upto = torch.searchsorted(order, surface.contiguous(), right=True)
    return (below + upto - 1) / 2


def _uniform(n: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    drawn = torch.rand(n, count, generator=generator, device=generator.device, dtype=torch.float64)
    moved: Tensor = to_device(drawn, device)
    return moved


def _checked(similarity: Tensor, surface: Tensor, candidates: Tensor | None) -> Tensor:
    for name, x in (("similarity", similarity), ("surface", surface)):
        check_features(name, x, like=similarity, shape="(n, m)")
        if x.dim() != 2 or x.shape != similarity.shape:
            raise ValueError(f"{name}: one shape (n, m) expected, got {tuple(x.shape)}")
        if x.device.type == "cpu" and x.numel() and not 0 <= float(x.min()) <= float(x.max()) <= 1:
            raise ValueError(f"{name}: numbers in [0, 1] expected, got {x.min().item()} to {x.max().item()}")
    if candidates is None:
        return torch.ones_like(similarity, dtype=torch.bool)
    check_tensor("candidates", candidates, similarity.shape, torch.bool)
    return candidates
