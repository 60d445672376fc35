r"""Predict the target network's representation of the other view (BYOL, Grill et al., NeurIPS 2020, eq. 2).

.. math:: \ell = \frac{1}{N} \sum_i \left( 2 - 2 \cos(p_i, \mathrm{sg}[z_i]) \right)

There are no negatives: what prevents collapse is that z comes from a momentum copy of the encoder
(:class:`nearfar.training.EMA`, momentum 0.99 to 1 by :func:`nearfar.training.cosine_momentum`) and that only
p passes a predictor. BGRL (Thakoor et al., ICLR 2022) is the same loss on the nodes of a graph.

Differs from the paper: the two directions are averaged, where eq. 2 and algorithm 1 add them: half the
gradient. PyGCL's ``BootstrapLatent`` returns the cosine with a plus sign, so that minimising it pushes the views
apart.
"""

from __future__ import annotations

from torch import Tensor

from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views


def byol_loss(p1: Tensor, z2: Tensor, p2: Tensor | None = None, z1: Tensor | None = None) -> Tensor:
    """Mean squared distance between unit predictions and unit targets, the targets held constant.

    Args:
        p1: Predictions from the first view, shape ``(N, d)``.
        z2: Targets from the second view, same shape as ``p1``; no gradient reaches them.
        p2: Predictions from the second view, same shape as ``p1``; with ``z1`` or not at all.
        z1: Targets from the first view, same shape as ``p1``; no gradient reaches them.

    Returns:
        Scalar in [0, 4], the mean of the two directions if both are given. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, or if only one of ``p2`` and ``z1`` is given.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> [byol_loss(p, x).item() for p in (x, y, -x)]  # identical, orthogonal, opposite
        [0.0, 2.0, 4.0]
        >>> byol_loss(x, x, -x, x).item()
        2.0
    """
    check_views(p1=p1, z2=z2)
    if p2 is None and z1 is None:
        return _distance(p1, z2)
    if p2 is None or z1 is None:
        given, missing = ("z1", "p2") if p2 is None else ("p2", "z1")
        raise ValueError(f"{missing}: expected beside {given}, got None")
    check_views(p1=p1, p2=p2, z1=z1)
    return (_distance(p1, z2) + _distance(p2, z1)) / 2


def _distance(p: Tensor, z: Tensor) -> Tensor:
    p, z = (smooth_normalize(at_least_float32(x)) for x in (p, z.detach()))
    return 2 - 2 * (p * z).sum(-1).mean()


class BYOL(Objective):
    """:func:`byol_loss` as a module.

    Example:
        >>> import torch
        >>> BYOL()(torch.eye(2), torch.eye(2)).item()
        0.0
    """

    def forward(self, p1: Tensor, z2: Tensor, p2: Tensor | None = None, z1: Tensor | None = None) -> Tensor:
        """As :func:`byol_loss`, shapes ``(N, d)``."""
        return byol_loss(p1, z2, p2, z1)
