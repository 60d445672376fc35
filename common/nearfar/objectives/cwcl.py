r"""Every key a positive, as much as a frozen encoder finds it alike (CWCL, Srinivasa et al., NeurIPS 2023).

.. math:: \ell_i = -\sum_j \frac{w_{ij}}{\sum_l w_{il}} \log \frac{e^{s_{ij}}}{\sum_l e^{s_{il}}}, \qquad
          w_{ij} = \frac{1 + \langle \tilde p_i, \tilde p_j \rangle}{2}

for rows of the first view, where p are frozen features of the rows; keys pick their rows by plain InfoNCE. The loss is
the mean of both directions.

Differs from the paper: the directions are averaged, not added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from nearfar.checks import check_matrix
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.positives import Soft
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class CWCL(SoftmaxObjective):
    """Continuously weighted contrastive loss.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`.

    Example:
        >>> import torch
        >>> z = torch.ones(4, 2)
        >>> round(CWCL()(z, z, torch.eye(4)).item(), 4)  # equal rows: log 4 for any weights
        1.3863
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        *,
        backend: Backend = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        super().__init__(temperature, backend, group)

    def forward(self, first: Tensor, second: Tensor, side: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)``; its rows have the soft targets.
            second: Second view, same shape as ``first``.
            side: Frozen features of the rows, shape ``(N, p)``; gets no gradient.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(first=first, second=second)
        check_matrix("side", side, shape="(N, p)", num_rows=len(first))
        alike = smooth_normalize(at_least_float32(side.detach()))
        # Weights are never all zero (a row's own is 1, or 1/2 without features): nothing to raise, nothing to wait for.
        rows = self._contrast(first, second, positives=Soft(0.5, 0.5, alike, alike), on_empty="zero")
        return (rows + self._contrast(second, first)) / 2
