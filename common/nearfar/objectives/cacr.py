r"""Far positives attract more, near negatives repel more (CACR, Zheng et al., 2021).

.. math:: \ell_x = \alpha \sum_k \pi^+_k c(x, y_k) - \beta \sum_j \pi^-_j c(x, y_j), \qquad
          \pi^+ = \mathrm{softmax}_k(t^+ c(x, y_k)), \quad \pi^- = \mathrm{softmax}_j(-t^- c(x, y_j))

with the cost :math:`c(x, y) = \lVert \tilde x - \tilde y \rVert^2`. Every row of every view is a query x in turn; its
positives are its other views, its negatives all rows of other samples in all views. ``tau_plus`` > 0 takes the
positives hidden among the negatives out, as the debiased InfoNCE does: the repelling cost is then
:math:`(\sum_j \pi^-_j c(x, y_j) - \tau^+ \bar c^+) / (1 - \tau^+)` with the mean cost of the positives.

Gradients flow through both softmaxes unless ``detach_weights``, as in the ImageNet code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_features, check_shares, check_weights
from nearfar.objectives.objective import Objective
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, stacked_views


def cacr_loss(
    views: Tensor,
    *,
    t_pos: float = 1.0,
    t_neg: float = 2.0,
    alpha: float = 1.0,
    beta: float = 1.0,
    detach_weights: bool = False,
    tau_plus: float = 0.0,
) -> Tensor:
    """Weighted squared distance of positives minus that of negatives, mean over all queries.

    Args:
        views: Views of the same rows, shape ``(V, N, d)`` with V and N at least 2; normalised here.
        t_pos: Sharpness of the positives' weights; 0 weighs them equally.
        t_neg: Sharpness of the negatives' weights; 0 weighs them equally, a large one only the hardest.
        alpha: Of the attraction.
        beta: Of the repulsion.
        detach_weights: Whether the softmaxes get no gradient.
        tau_plus: Share of positives assumed among the negatives, at least 0 and below 1.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> z = torch.eye(3)
        >>> cacr_loss(torch.stack([z, z])).item()  # positives at distance 0, negatives at squared distance 2
        -2.0
    """
    check_features("views", views, shape="(V, N, d)")
    if views.dim() != 3 or min(views.shape[:2]) < 2:
        raise ValueError(f"views: (V, N, d) with V and N at least 2 expected, got shape {tuple(views.shape)}")
    _check_numbers(t_pos, t_neg, alpha, beta, tau_plus)
    with torch.autocast(views.device.type, enabled=False):
        unit = smooth_normalize(at_least_float32(views))
        attraction, mean_cost = _attraction(unit, t_pos, detach=detach_weights)
        repulsion = _repelling_cost(unit, t_neg, detach=detach_weights)
        if tau_plus > 0:
            repulsion = (repulsion - tau_plus * mean_cost) / (1 - tau_plus)
        return (alpha * attraction - beta * repulsion).mean()


def _attraction(unit: Tensor, t_pos: float, *, detach: bool) -> tuple[Tensor, Tensor]:
    """Weighted and plain mean cost of the positives of every query, shapes ``(V N,)``."""
    num_views = len(unit)
    itself = torch.eye(num_views, dtype=torch.bool, device=unit.device)
    cost = (2 - 2 * torch.einsum("vnd,wnd->nvw", unit, unit)).masked_fill(itself, 0)
    weight = torch.softmax((t_pos * cost).masked_fill(itself, -torch.inf), -1)
    weight = weight.detach() if detach else weight
    mean = cost.sum(-1) / (num_views - 1)
    return (weight * cost).sum(-1).mT.flatten(), mean.mT.flatten()


def _repelling_cost(unit: Tensor, t_neg: float, *, detach: bool) -> Tensor:
    """Weighted cost of every query's negatives, shape ``(V N,)``."""
    rows = unit.flatten(0, 1)
    ids = torch.arange(unit.shape[1], device=unit.device).repeat(len(unit))

    def of_queries(queries: Tensor, query_ids: Tensor) -> Tensor:
        cost = 2 - 2 * queries @ rows.mT
        logit = (-t_neg * cost).masked_fill(query_ids[:, None] == ids, -torch.inf)
        weight = torch.softmax(logit, 1)
        return ((weight.detach() if detach else weight) * cost).sum(1)

    return by_row_tiles(of_queries, rows, ids, width=4 * len(rows))


def _check_numbers(t_pos: float, t_neg: float, alpha: float, beta: float, tau_plus: float) -> None:
    check_weights(t_pos=t_pos, t_neg=t_neg, alpha=alpha, beta=beta)
    check_shares(below_one=True, tau_plus=tau_plus)


class CACR(Objective):
    """:func:`cacr_loss` as a module.

    Args:
        t_pos: Sharpness of the positives' weights.
        t_neg: Sharpness of the negatives' weights.
        alpha: Of the attraction.
        beta: Of the repulsion.
        detach_weights: Whether the softmaxes get no gradient.
        tau_plus: Share of positives assumed among the negatives.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> CACR(t_neg=0.9).config["t_neg"]
        0.9
    """

    def __init__(
        self,
        t_pos: float = 1.0,
        t_neg: float = 2.0,
        alpha: float = 1.0,
        beta: float = 1.0,
        *,
        detach_weights: bool = False,
        tau_plus: float = 0.0,
    ) -> None:
        _check_numbers(t_pos, t_neg, alpha, beta, tau_plus)
        super().__init__(
            t_pos=t_pos,
            t_neg=t_neg,
            alpha=alpha,
            beta=beta,
            detach_weights=detach_weights,
            tau_plus=tau_plus,
        )

    def forward(self, first: Tensor, second: Tensor, more: Tensor | None = None) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)`` with N at least 2.
            second: Second view, same shape as ``first``.
            more: Further views, shape ``(K, N, d)``.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        return cacr_loss(stacked_views(first, second, more, 2), **self.config)
