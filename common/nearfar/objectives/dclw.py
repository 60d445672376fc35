r"""DCL that pulls harder on positives that are far apart (DCLW, Yeh et al., ECCV 2022, eq. 7).

.. math:: \ell_i = -w_i s_{i \pi(i)} + \log \sum_{j \neq i, \pi(i)} e^{s_{ij}}, \qquad
          w_i = 2 - N \, \mathrm{softmax}_i( \langle z_{1,i}, z_{2,i} \rangle / \sigma )

The weights average to one and receive no gradient; that of a pair much closer than the rest is negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.checks import check_positive
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class DCLW(SoftmaxObjective):
    """DCL with von Mises-Fisher weights of the positives.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        sigma: Width of the weighting; towards infinity all weights are one.
        backend: As of :func:`contrast`.
        group: As of :func:`contrast`; weights are then relative to each process's own batch.

    Raises:
        ValueError: If ``sigma`` is not positive.

    Example:
        >>> import torch
        >>> round(DCLW()(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # equal pairs: DCL
        1.7918
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        *,
        sigma: float = 0.5,
        backend: Backend = "auto",
        group: ProcessGroup | None = None,
    ) -> None:
        check_positive(sigma=sigma)
        super().__init__(temperature, backend, group, sigma=sigma)
        self.sigma = sigma

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            z1: First view, shape ``(N, d)``.
            z2: Second view, same shape; row i shows the sample of row i of ``z1``.
        """
        check_views(z1=z1, z2=z2)
        first, second = (smooth_normalize(at_least_float32(z)) for z in (z1, z2))
        similarity = (first * second).sum(-1)
        weight = 2 - len(z1) * torch.softmax(similarity.detach() / self.sigma, 0)
        decoupled = self._contrast(torch.cat([z1, z2]), positives=("paired", len(z1)), include_positive=False)
        return decoupled + ((1 - weight) * similarity / self._current_temperature()).mean()
