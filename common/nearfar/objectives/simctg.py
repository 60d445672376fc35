r"""A margin between the pair of views and every other pair (SimCTG, Su et al., NeurIPS 2022).

.. math:: \ell = \frac{1}{N (N-1)} \sum_i \sum_{j \neq i} \max(0, \; \rho - s_{ii} + s_{ij})

with cosines s of rows of one view and keys of the other, averaged over both directions. The paper compares the tokens
of one text, for which :math:`s_{ii} = 1`: give the same rows twice for that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_weights
from nearfar.objectives.objective import Objective
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views


def simctg_loss(first: Tensor, second: Tensor, *, margin: float = 0.5) -> Tensor:
    """Mean over pairs of different rows of how far their cosine is above that of the own pair minus a margin.

    Args:
        first: First view, shape ``(N, d)`` with N at least 2.
        second: Second view, same shape as ``first``.
        margin: Wanted difference of cosines.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape or dtype does not fit, or ``margin`` is negative.

    Example:
        >>> z = torch.eye(3)
        >>> round(simctg_loss(z, z, margin=1.25).item(), 4)  # 1.25 - 1 + 0
        0.25
    """
    check_views(2, first=first, second=second)
    check_weights(margin=margin)
    with torch.autocast(first.device.type, enabled=False):
        rows, keys = (smooth_normalize(at_least_float32(x)) for x in (first, second))
        own = (rows * keys).sum(1)
        place = torch.arange(len(rows), device=rows.device)

        def of_rows(x: Tensor, own_of_rows: Tensor, place_of_rows: Tensor) -> Tensor:
            raised = x @ keys.mT + margin
            # One product for both directions: read by rows, and by keys.
            excess = (raised - own_of_rows[:, None]).relu() + (raised - own).relu()
            return excess.masked_fill(place_of_rows[:, None] == place, 0).sum(1)

        excess = by_row_tiles(of_rows, rows, own, place, width=6 * len(keys))
        return excess.sum() / (2 * len(rows) * (len(rows) - 1))


class SimCTG(Objective):
    """:func:`simctg_loss` as a module.

    Args:
        margin: Wanted difference of cosines.

    Raises:
        ValueError: If ``margin`` is negative.

    Example:
        >>> SimCTG()
        SimCTG(margin=0.5)
    """

    def __init__(self, margin: float = 0.5) -> None:
        check_weights(margin=margin)
        super().__init__(margin=margin)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """As :func:`simctg_loss`, shapes ``(N, d)``."""
        return simctg_loss(first, second, **self.config)
