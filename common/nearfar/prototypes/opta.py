r"""Prototypes moved to where the queries are (OpTA of BECLR, Poulakakis-Daktylidis and Jamali-Rad, ICLR 2024).

.. math:: P' = \mathrm{diag}(\Pi 1)^{-1} \, \Pi \, Q, \qquad C_{cj} = \lVert P_c - Q_j \rVert^2 / \max_{c j} C

with the entropic transport plan of equal marginals :math:`\Pi` between prototypes P and queries Q. The method is
transductive: it sees all queries at once and takes classes for equally frequent among them. Say so in every table.

Differs from the official code, which stops when the dual changes by less than 1e-4: here when no row of the plan is off
by a larger share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_matrix, check_shares
from nearfar.sinkhorn import sinkhorn


def opta(
    prototypes: Tensor,
    queries: Tensor,
    *,
    passes: int = 5,
    keep: float = 0.0,
    eps: float = 0.05,
    iterations: int = 1000,
    tolerance: float = 1e-4,
) -> Tensor:
    """Prototypes as means of queries, weighted by an optimal transport plan.

    Args:
        prototypes: Mean of the few examples of each class, shape ``(C, d)``.
        queries: What is to be classified, shape ``(n, d)``.
        passes: How often; the paper takes 5 for one example a class and 1 for five.
        keep: Share of the old prototype that stays in each pass, in [0, 1]; the paper takes 0 for one example a class,
            else 0.3.
        eps: Weight of the entropy in the plan; large, every prototype becomes the mean of the queries.
        iterations: Rounds of Sinkhorn at most.
        tolerance: Share by which a row sum of the plan may be off; to see it, the device is waited for.

    Returns:
        Shape ``(C, d)``, differentiable. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> queries = torch.tensor([[0.0], [0.2], [1.0], [1.2]])
        >>> [round(x, 2) for x in opta(torch.tensor([[0.3], [0.8]]), queries).flatten().tolist()]
        [0.1, 1.1]
    """
    check_matrix("prototypes", prototypes, shape="(C, d)")
    check_matrix("queries", queries, like=prototypes, shape="(n, d)")
    if passes < 0:
        raise ValueError(f"passes: 0 or more expected, got {passes}")
    check_shares(keep=keep)
    with torch.autocast(prototypes.device.type, enabled=False):
        dtype = torch.promote_types(prototypes.dtype, torch.float32)
        moved, among = prototypes.to(dtype), queries.to(dtype)
        for _ in range(passes):
            cost = _squared_distances(moved, among)
            cost = cost / cost.max().clamp(min=torch.finfo(dtype).tiny)
            plan = sinkhorn(cost, eps=eps, iterations=iterations, tolerance=tolerance)
            mean = plan @ among / plan.sum(1, keepdim=True)
            moved = torch.lerp(mean, moved, keep)
        return moved


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Shape ``(C, n)``; about the mean of b, as differences of small numbers keep more digits."""
    centre = b.mean(0)
    a, b = a - centre, b - centre
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.mT, alpha=-2).clamp(min=0)
