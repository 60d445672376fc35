r"""How many edges an augmentation may take from a node: the set over which a certificate holds.

Independent dropping at rate p has no such limit. The published budget is close to its mean,
:math:`q_i = \min(\max(\tilde d_i - 2, 0), \mathrm{rint}(p\, d_i))` (POT, Yu et al., NeurIPS 2023), and is exceeded
at more than a quarter of Cora's nodes in one draw at p = 0.4: a certificate under it says nothing about those draws.
``quantile`` makes it a statement about independent dropping, with a probability; :func:`budget_sampler` makes
augmentations that obey.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.augment.graphs import drop_edges
from nearfar.errors import ConfigError, DataError
from nearfar.graph.checks import check_ids
from nearfar.graph.pattern import row_pointer
from nearfar.scalars import is_number, is_whole

BudgetKind: TypeAlias = Literal["expected", "quantile", "fixed", "all"]


@dataclass(frozen=True)
class AugmentationBudget:
    """A rule for the most edges that may be dropped among those that point to a node.

    Attributes:
        p: Drop probability of every edge, in [0, 1).
        kind: ``expected``: the published budget, about the mean number dropped, at least one edge stays.
            ``quantile``: the smallest number that independent dropping exceeds at a node with probability at most
            ``delta``. ``fixed``: ``count`` at every node. ``all``: every edge.
        delta: Of ``quantile``, in (0, 1).
        count: Of ``fixed``; a node that has fewer edges may lose all of them.
        directed: Whether the two directions of an edge are dropped independently.

    Raises:
        ConfigError: If a value is out of bounds.

    Example:
        >>> edges = torch.tensor([[0, 1, 2, 3], [3, 3, 3, 0]])
        >>> AugmentationBudget(0.4).of(edges, 4).tolist()  # node 3 hears three others
        [0, 0, 0, 1]
        >>> AugmentationBudget(0.4, "quantile", delta=0.1).of(edges, 4).tolist()
        [1, 0, 0, 2]
    """

    p: float = 0.4
    kind: BudgetKind = "expected"
    delta: float = 0.05
    count: int = 1
    directed: bool = True

    def __post_init__(self) -> None:
        for name in ("p", "delta", "count"):
            value, kind = getattr(self, name), is_whole if name == "count" else is_number
            if not kind(value):
                raise ConfigError(
                    f"{name}: {'a whole' if name == 'count' else 'a'} number expected, got {value!r}"
                )
        if not 0 <= self.p < 1:
            raise ConfigError(f"p: 0 to below 1 expected, got {self.p}")
        if self.kind not in get_args(BudgetKind):
            raise ConfigError(f"kind: one of {', '.join(get_args(BudgetKind))} expected, got {self.kind!r}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"delta: above 0 and below 1 expected, got {self.delta}")
        if self.count < 0:
            raise ConfigError(f"count: at least 0 expected, got {self.count}")

    def of(self, edge_index: Tensor, num_nodes: int, probability: Tensor | None = None) -> Tensor:
        """The budget of every node.

        Args:
            edge_index: Source and target of every edge, shape ``(2, E)``, without self loops.
            num_nodes: Number of nodes n.
            probability: Of dropping each edge where they differ (GCA, ProGCL), shape ``(E,)``; takes the place of
                ``p``.

        Returns:
            Whole numbers, shape ``(n,)``.

        Raises:
            DataError: If edges are not as described, or the probabilities do not fit them.
        """
        check_ids(edge_index, num_nodes)
        target = edge_index[1]
        degree = row_pointer(target, num_nodes).diff()
        if probability is not None:
            _check_probability(probability, target.shape)
        if self.kind == "all":
            return degree
        if self.kind == "fixed":
            return degree.clamp(max=self.count)
        if self.kind == "quantile":
            return self._quantile(degree, self._rates(target, num_nodes, probability))
        mean = self.p * degree.float()
        if probability is not None:
            mean = torch.zeros(num_nodes, device=target.device).index_add(0, target, probability.float())
        # round() takes halves to the even number, as NumPy's rint does; the published degree counts the node itself.
        return torch.minimum(mean.round().long(), (degree - 1).clamp(min=0))

    def _rates(self, target: Tensor, num_nodes: int, probability: Tensor | None) -> Tensor:
        """The largest rate at a node: with it, counts are stochastically largest."""
        if probability is None:
            return torch.full((num_nodes,), self.p, dtype=torch.float64, device=target.device)
        rates = torch.zeros(num_nodes, dtype=torch.float64, device=target.device)
        return rates.scatter_reduce(0, target, probability.double(), "amax")

    def _quantile(self, degree: Tensor, rates: Tensor) -> Tensor:
        pairs, which = torch.stack([degree.double(), rates], 1).unique(dim=0, return_inverse=True)
        found = [binomial_quantile(int(count), float(rate), self.delta) for count, rate in pairs.tolist()]
        return torch.tensor(found, dtype=torch.int64, device=degree.device)[which]


def _check_probability(probability: Tensor, shape: torch.Size) -> None:
    if probability.shape != shape:
        raise DataError(
            f"probability: shape {tuple(shape)} expected, one number an edge, got {tuple(probability.shape)}; give one "
            "for each column of edge_index"
        )
    outside = ~((probability >= 0) & (probability <= 1))  # NaN, too
    if bool(outside.any()):
        edge = int(outside.nonzero()[0])
        raise DataError(
            f"probability: {probability[edge].item()} of edge {edge}, 0 to 1 expected; clamp the weights that it comes "
            "from, or leave the edge out"
        )


def binomial_quantile(count: int, p: float, delta: float) -> int:
    """Smallest q such that more than q of ``count`` independent events happen with probability at most ``delta``.

    Args:
        count: Number of events.
        p: Probability of each.
        delta: Largest probability.

    Example:
        >>> binomial_quantile(10, 0.5, 0.05)  # P(more than 8) = 0.011, P(more than 7) = 0.055
        8
    """
    if p in (0.0, 1.0) or count == 0:
        return round(p * count)
    k = torch.arange(count + 1, dtype=torch.float64)
    top = torch.tensor(float(count), dtype=torch.float64)
    choose = torch.lgamma(top + 1) - torch.lgamma(k + 1) - torch.lgamma(top - k + 1)
    mass = (choose + k * math.log(p) + (top - k) * math.log1p(-p)).exp()
    above = mass.flip(0).cumsum(0).flip(0)  # P(at least k)
    exceeded = torch.cat([above[1:], above.new_zeros(1)])
    return int((exceeded > delta).sum())


def budget_sampler(
    edge_index: Tensor,
    q: Tensor,
    generator: torch.Generator,
    *,
    p: float | Tensor = 0.4,
    directed: bool = True,
) -> tuple[Tensor, Tensor]:
    """Drop edges independently, then give back, at random, what exceeds a node's budget.

    Args:
        edge_index: Shape ``(2, E)``.
        q: Budget of every node, shape ``(n,)``.
        generator: Source of every draw.
        p: Drop probability, one or for each edge, shape ``(E,)``.
        directed: Whether the directions of an edge are dropped independently; else together, and count at both ends.

    Returns:
        The edges that stay, ``(2, K)``, and the mask of them, bool, shape ``(E,)``.
    """
    return drop_edges(edge_index, generator, p=p, undirected=not directed, node_budget=q)
