r"""BYOL and SimSiam together with their predictor, for callers that have none.

.. math:: \ell = \tfrac12 \bigl( d(h(z_1), t_2) + d(h(z_2), t_1) \bigr), \qquad d(p, t) = 2 - 2 \cos(p, \mathrm{sg}[t])

h is linear, batch normalisation, ReLU, linear (BYOL, Grill et al., NeurIPS 2020, section 3.3; SimSiam, Chen and He,
CVPR 2021, section 3). Targets t are a slow copy's (BYOL) or the same representations (SimSiam). The loss is
:func:`nearfar.objectives.byol.byol_loss`.

Differs from the papers: BYOL's predictor is 16 times as wide as what it predicts, here it is 4 times by default.
"""

from __future__ import annotations

from torch import Tensor, nn

from nearfar.checks import check_counts
from nearfar.objectives.byol import byol_loss
from nearfar.objectives.objective import Objective
from nearfar.objectives.simsiam import simsiam_loss
from nearfar.objectives.views import at_least_float32, check_views


class Predictor(nn.Module):
    """Linear, batch normalisation, ReLU, linear; from one representation to another of the same width.

    Args:
        dim: Width of representations.
        hidden: Width in between.

    Raises:
        ValueError: If a width is below 1.

    Example:
        >>> import torch
        >>> Predictor(3, 8)(torch.zeros(5, 3)).shape
        torch.Size([5, 3])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        check_counts(dim=dim, hidden=hidden)
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Predictions.

        Args:
            z: Shape ``(N, dim)``, N at least 2 in training mode; half precision is taken to that of the weights.

        Returns:
            Same shape as ``z``, at least float32.
        """
        predicted: Tensor = self.layers(at_least_float32(z))
        return at_least_float32(predicted)


class PredictedBYOL(Objective):
    """BYOL, both directions, with its predictor.

    Args:
        dim: Width of representations.
        hidden: Width of the predictor, by default four times ``dim``.

    Attributes:
        predictor: What is trained with the encoder and has no copy.

    Raises:
        ValueError: If a width is below 1.

    Example:
        >>> import torch
        >>> loss, x = PredictedBYOL(2), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
        >>> 0 <= loss(x, x, x, x).item() <= 4
        True
    """

    def __init__(self, dim: int, *, hidden: int | None = None) -> None:
        hidden = 4 * dim if hidden is None else hidden
        super().__init__(dim=dim, hidden=hidden)
        self.predictor = Predictor(dim, hidden)

    def forward(self, first: Tensor, second: Tensor, target_first: Tensor, target_second: Tensor) -> Tensor:
        """Scalar loss in [0, 4].

        Args:
            first: First view, shape ``(N, dim)`` with N at least 2.
            second: Second view, same shape as ``first``.
            target_first: The first view through a slow copy, same shape as ``first``; no gradient reaches it.
            target_second: The second view through a slow copy, same shape as ``first``; no gradient reaches it.
        """
        views = {
            "first": first,
            "second": second,
            "target_first": target_first,
            "target_second": target_second,
        }
        check_views(2, self.predictor.dim, **views)
        one, two = self.predictor(first), self.predictor(second)
        return byol_loss(one, target_second.to(one.dtype), two, target_first.to(two.dtype))


class PredictedSimSiam(Objective):
    """SimSiam, both directions, with its predictor.

    Args:
        dim: Width of representations.
        hidden: Width of the predictor, by default a quarter of ``dim``: a bottleneck.

    Attributes:
        predictor: What keeps both views from the constant answer.

    Raises:
        ValueError: If a width is below 1.

    Example:
        >>> import torch
        >>> loss, x = PredictedSimSiam(2), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
        >>> 0 <= loss(x, x).item() <= 4
        True
    """

    def __init__(self, dim: int, *, hidden: int | None = None) -> None:
        hidden = max(dim // 4, min(dim, 1)) if hidden is None else hidden
        super().__init__(dim=dim, hidden=hidden)
        self.predictor = Predictor(dim, hidden)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss in [0, 4].

        Args:
            first: First view, shape ``(N, dim)`` with N at least 2.
            second: Second view, same shape as ``first``.
        """
        check_views(2, self.predictor.dim, first=first, second=second)
        one, two = self.predictor(first), self.predictor(second)
        return simsiam_loss(one, second.to(one.dtype), two, first.to(two.dtype))
