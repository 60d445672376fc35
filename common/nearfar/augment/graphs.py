r"""Edge dropping and feature masking for graphs, uniform, weighted or within a budget.

Uniform dropping is that of GRACE (Zhu et al., 2020, section 3.2). Weighted probabilities follow GCA (Zhu et
al., WWW 2021, section 3.2): with an importance score s (the logarithm of a centrality)

.. math:: p_e = \min\Bigl(\frac{s_{\max} - s_e}{s_{\max} - \bar s}\, p,\; p_{\mathrm{cap}}\Bigr)

Budgets bound the number of edges lost at every node, as the certificates of POT assume (Yu et al., NeurIPS
2023): independent dropping exceeds its expected number at many nodes.

Differs from the official codes: with ``undirected=True`` the two directions of an edge share one draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.augment.draws import uniform

__all__ = [
    "drop_edges",
    "edge_drop_probability",
    "feature_mask_probability",
    "mask_features",
]

# Passes over the edges that lost to a busy node and may fit after all; each keeps the budget.
_NUM_PASSES = 4


def drop_edges(
    edge_index: Tensor,
    generator: torch.Generator,
    *,
    p: float | Tensor = 0.5,
    undirected: bool = False,
    node_budget: int | Tensor | None = None,
    edge_budget: int | None = None,
    drop_self_loops: bool = False,
) -> tuple[Tensor, Tensor]:
    """Drop every edge with a probability, never more than a budget allows.

    Edges beyond a budget are chosen uniformly among the dropped ones and restored. For weights or other
    attributes of the edges use the mask: ``edge_weight[edge_mask]``.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        generator: Source of every draw.
        p: Probability, in [0, 1]; for each edge, shape ``(E,)``.
        undirected: Whether edges between the same two nodes, in either direction, share one draw; where
            their probabilities differ (as GCA's do), the mean counts.
        node_budget: Most edges dropped that point *to* a node; for each node, shape ``(N,)``, int64. With
            ``undirected`` this bounds the undirected edges dropped at a node.
        edge_budget: Most edges dropped in all; with ``undirected``, pairs count once.
        drop_self_loops: Whether self loops may be dropped; else they always stay.

    Returns:
        The edges that stay, shape ``(2, E')``, in their old order, and the mask of them, shape ``(E,)``,
        bool, as ``torch_geometric.utils.dropout_edge`` returns them.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> kept, mask = drop_edges(edges, torch.Generator(), p=1.0, undirected=True, node_budget=1)
        >>> mask.sum().item()  # node 1 loses one of its two neighbours, in both directions
        2
    """
    if edge_index.dim() != 2 or len(edge_index) != 2 or edge_index.dtype != torch.int64:
        raise ValueError(
            f"edge_index: int64 of shape (2, E) expected, got {edge_index.dtype} of {tuple(edge_index.shape)}"
        )
    num_edges = edge_index.shape[1]
    _check_probability("p", p, num_edges)
    _check_budget("node_budget", node_budget, edge_index)
    _check_budget("edge_budget", edge_budget, edge_index)
    pair, is_first = _pairs(edge_index, undirected)
    # Both numbers of an edge are those of the first edge of its pair.
    chance = _pair_mean(p.to(pair.device), pair) if isinstance(p, Tensor) else p
    dropped = uniform((num_edges,), edge_index, generator)[pair] < chance
    if not drop_self_loops:
        dropped = dropped & (edge_index[0] != edge_index[1])
    if node_budget is not None or edge_budget is not None:
        rank = uniform((num_edges,), edge_index, generator)[pair]
        if node_budget is not None:
            dropped = _within_node_budget(dropped, edge_index[1], pair, rank, node_budget)
        if edge_budget is not None:
            dropped = _within_edge_budget(dropped, pair, is_first, rank, edge_budget)
    return edge_index[:, ~dropped], ~dropped


def mask_features(
    x: Tensor, generator: torch.Generator, *, p: float | Tensor = 0.5, per_node: bool = False
) -> tuple[Tensor, Tensor]:
    """Set feature dimensions to zero, the same ones for all nodes, or other ones for each.

    Args:
        x: Node features, shape ``(N, d)``.
        generator: Source of every draw.
        p: Probability, in [0, 1]; for each dimension, shape ``(d,)``.
        per_node: Whether every node has its own draw.

    Returns:
        New features ``(N, d)``, and the mask of what stays, bool, shape ``(1, d)`` or ``(N, d)``, as
        ``torch_geometric.utils.mask_feature`` returns them. NaN behind the mask becomes zero too.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> x = torch.ones(2, 3)
        >>> mask_features(x, torch.Generator(), p=torch.tensor([0.0, 1.0, 0.0]))[0].tolist()
        [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    """
    if x.dim() != 2:
        raise ValueError(f"x: shape (N, d) expected, got {tuple(x.shape)}")
    _check_probability("p", p, x.shape[1])
    kept = uniform((len(x) if per_node else 1, x.shape[1]), x, generator) >= p
    return x.masked_fill(~kept, 0), kept


def edge_drop_probability(
    edge_index: Tensor, centrality: Tensor, *, p: float = 0.5, cap: float = 0.7
) -> Tensor:
    """Drop probabilities of GCA: edges that point to central nodes are kept more often.

    Args:
        edge_index: Source and target of every edge, shape ``(2, E)``, int64.
        centrality: Positive importance of every node (degree, PageRank, ...), shape ``(N,)``.
        p: Mean probability before the cap, in [0, 1].
        cap: Largest probability, in [0, 1].

    Returns:
        Shape ``(E,)``, for the argument ``p`` of :func:`drop_edges`.

    Raises:
        ValueError: If the number of centralities or one of them makes no sense.

    Example:
        >>> edges = torch.tensor([[0, 1, 1], [1, 0, 2]])
        >>> edge_drop_probability(edges, torch.tensor([1.0, 2.0, 1.0]), p=0.4).tolist()  # 0, 0.6, 0.6
        [0.0, 0.6000000238418579, 0.6000000238418579]
    """
    if centrality.dim() != 1:
        raise ValueError(f"centrality: shape (N,) expected, got {tuple(centrality.shape)}")
    _check_positive(centrality)
    return _probability(centrality.log()[edge_index[1]], p, cap)


def feature_mask_probability(x: Tensor, centrality: Tensor, *, p: float = 0.5, cap: float = 0.7) -> Tensor:
    r"""Mask probabilities of GCA: dimensions that are large at central nodes are kept more often.

    The importance of a dimension d is :math:`\log \sum_i |x_{id}|\, c_i`; dimensions that are zero at
    every node count like the least important of the others.

    Args:
        x: Node features, shape ``(N, d)``.
        centrality: Positive importance of every node, shape ``(N,)``.
        p: Mean probability before the cap, in [0, 1].
        cap: Largest probability, in [0, 1].

    Returns:
        Shape ``(d,)``, for the argument ``p`` of :func:`mask_features`.

    Raises:
        ValueError: If the number of centralities or one of them makes no sense.

    Example:
        >>> x = torch.tensor([[1.0, 0.5], [1.0, 0.5]])
        >>> feature_mask_probability(x, torch.ones(2), p=0.2).tolist()  # 0 and twice the mean
        [0.0, 0.4000000059604645]
    """
    if x.dim() != 2 or centrality.shape != x.shape[:1]:
        raise ValueError(
            f"centrality: shape (N,) for x of shape (N, d) expected, got {tuple(centrality.shape)} "
            f"for {tuple(x.shape)}"
        )
    _check_positive(centrality)
    weight = x.abs().T @ centrality.to(x.dtype)
    least = weight.masked_fill(weight == 0, torch.inf).amin()
    return _probability(torch.where(weight == 0, least, weight).log(), p, cap)


def _check_positive(centrality: Tensor) -> None:
    if centrality.device.type == "cpu" and not bool((centrality > 0).all()):
        raise ValueError(f"centrality: positive numbers expected, got {centrality.min():g}")


def _probability(score: Tensor, p: float, cap: float) -> Tensor:
    _check_probability("p", p, 1)
    _check_probability("cap", cap, 1)
    gap, mean_gap = score.amax() - score, score.amax() - score.mean()
    # Equal scores say nothing: every edge has the mean probability.
    weight = torch.where(mean_gap > 0, gap / mean_gap, torch.ones_like(gap))
    return (weight * p).clamp(max=cap)


def _check_probability(name: str, p: float | Tensor, size: int) -> None:
    if not isinstance(p, Tensor):
        if not 0 <= p <= 1:
            raise ValueError(f"{name}: 0 to 1 expected, got {p}")
    elif p.shape != (size,):
        raise ValueError(f"{name}: a number or shape {(size,)} expected, got {tuple(p.shape)}")
    # Reading the values of a tensor elsewhere would stop the device.
    elif p.device.type == "cpu" and not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"{name}: 0 to 1 expected, got values from {p.min():g} to {p.max():g}")


def _check_budget(name: str, budget: int | Tensor | None, edge_index: Tensor) -> None:
    if isinstance(budget, int) and budget < 0:
        raise ValueError(f"{name}: at least 0 expected, got {budget}")
    if not isinstance(budget, Tensor):
        return
    if budget.dim() != 1 or budget.is_floating_point() or budget.is_complex():
        raise ValueError(
            f"{name}: whole numbers of shape (N,) expected, got {budget.dtype} of {tuple(budget.shape)}"
        )
    if budget.device.type != "cpu" or edge_index.device.type != "cpu":
        return
    if edge_index.numel() and len(budget) <= int(edge_index.max()):
        raise ValueError(f"{name}: {int(edge_index.max()) + 1} nodes or more expected, got {len(budget)}")
    if bool((budget < 0).any()):
        raise ValueError(f"{name}: at least 0 expected, got {int(budget.min())}")


def _pairs(edge_index: Tensor, undirected: bool) -> tuple[Tensor, Tensor]:
    """For every edge the number of the first edge of its pair, and whether it is that edge itself."""
    num_edges = edge_index.shape[1]
    position = torch.arange(num_edges, device=edge_index.device)
    if not undirected or num_edges == 0:
        return position, torch.ones_like(position, dtype=torch.bool)
    low, high = edge_index.amin(0), edge_index.amax(0)
    key, order = (low * (high.max() + 1) + high).sort(stable=True)
    starts = torch.ones_like(key, dtype=torch.bool)
    starts[1:] = key[1:] != key[:-1]
    # In sorted order, the place where the run of equal keys began.
    run = torch.where(starts, position, 0).cummax(0).values
    pair = torch.empty_like(order).scatter(0, order, order[run])
    return pair, pair == position


def _pair_mean(p: Tensor, pair: Tensor) -> Tensor:
    total = torch.zeros_like(p).index_add(0, pair, p)
    count = torch.zeros_like(p).index_add(0, pair, torch.ones_like(p))
    return (total / count.clamp(min=1))[pair]


def _within_node_budget(
    dropped: Tensor, target: Tensor, pair: Tensor, rank: Tensor, budget: int | Tensor
) -> Tensor:
    """Dropped edges of which no node loses more than its budget, all but a few of those a loop would find.

    The loop lets edges go in the order of ``rank``: an edge goes, and with it the others of its pair, if
    those gone before leave room at its target. Here, a pass decides all edges whose fate is clear; those
    in doubt after the last pass stay. An edge that goes has room even if all in doubt before it go, so the
    budget holds whenever the passes end.
    """
    room = budget if isinstance(budget, int) else budget.to(target.device)[target]
    order = rank.argsort(stable=True)
    order = order[target[order].argsort(stable=True)]
    position = torch.arange(len(order), device=order.device)
    begins = torch.ones_like(dropped)
    begins[1:] = target[order][1:] != target[order][:-1]
    begin = torch.where(begins, position, 0).cummax(0).values

    def count(edges: Tensor) -> Tensor:
        """How many of the edges have the same target and a rank up to that of each."""
        inside = edges[order].long()
        total = inside.cumsum(0)
        return torch.empty_like(order).scatter(0, order, total - (total - inside)[begin])

    gone, doubtful = torch.zeros_like(dropped), dropped
    for _ in range(_NUM_PASSES):
        fits = doubtful & _all_of_pair(count(gone | doubtful) <= room, pair)
        gone = gone | fits
        room_left = _all_of_pair(count(gone) < room, pair)
        doubtful = doubtful & ~fits & room_left
    return gone


def _all_of_pair(holds: Tensor, pair: Tensor) -> Tensor:
    return torch.ones_like(pair).scatter_reduce(0, pair, holds.long(), "amin")[pair].bool()


def _within_edge_budget(dropped: Tensor, pair: Tensor, is_first: Tensor, rank: Tensor, budget: int) -> Tensor:
    order = rank.argsort(stable=True)
    counted = (dropped & is_first)[order].long().cumsum(0) <= budget
    return dropped & torch.empty_like(dropped).scatter(0, order, counted)[pair]
