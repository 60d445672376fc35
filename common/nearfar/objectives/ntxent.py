r"""Pick the other view of a sample among all other rows of both views (SimCLR, Chen et al., ICML 2020, eq. 1).

.. math:: \ell_i = -\log \frac{e^{s_{i \pi(i)}}}{\sum_{j \neq i} e^{s_{ij}}}, \qquad s_{ij} = \cos(z_i, z_j) / \tau

over the 2 N rows of both views, pi(i) the other view of i. GRACE's loss (Zhu et al., 2020) is the same. More than two
views, stacked, have the other views of a sample as positives, each with a softmax of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.softmax import SoftmaxObjective

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class NTXent(SoftmaxObjective):
    """Normalised, temperature-scaled cross-entropy of two or more views.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`.

    Example:
        >>> import torch
        >>> round(NTXent()(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # chance: log 7
        1.9459
    """

    include_positive = True

    def __init__(
        self, temperature: Temperature = 0.1, *, backend: Backend = "auto", group: ProcessGroup | None = None
    ) -> None:
        super().__init__(temperature, backend, group)

    def forward(self, z1: Tensor, z2: Tensor, *more: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            z1: First view, shape ``(..., N, d)``.
            z2: Second view, same shape; row i shows the sample of row i of ``z1``.
            *more: More views, same shape.

        Raises:
            ValueError: If the shapes differ.
        """
        for name, view in (("z2", z2), *((f"view {i}", view) for i, view in enumerate(more, 3))):
            if view.shape != z1.shape:
                raise ValueError(f"{name}: shape {tuple(z1.shape)} expected, got {tuple(view.shape)}")
        views, size = torch.cat([z1, z2, *more], -2), z1.shape[-2]
        return self._contrast(views, positives=("paired", size), include_positive=self.include_positive)
