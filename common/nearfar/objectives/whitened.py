r"""Several positives of one view, each whitened in other groups of features (WhitenedCSE, Zhuo et al., ACL 2023).

.. math:: \ell = \frac{1}{P N} \sum_{p, i} -\log \frac{e^{s^p_{ii}}}{\sum_j e^{s^p_{ij}}}, \qquad
          s^p_{ij} = \cos(a_i, w^p_j) / \tau, \qquad w^p = \mathrm{SGW}(b; \text{permutation } p)

for views a and b, one direction only, with :func:`nearfar.objectives.whitening.shuffled_group_whitening`.

Differs from the released code: any number of positives, their mean rather than sum, and its additions to the whitening.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_counts, check_positive
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.objectives.whitening import check_groups, shuffled_group_whitening


class WhitenedInfoNCE(SoftmaxObjective):
    """InfoNCE of one view with whitened versions of the other.

    Args:
        dim: Features of the views.
        groups: Groups of features, which must divide ``dim``; batches need more rows than a group has features, or
            covariances are shrunk.
        num_pos: How many whitened versions.
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        eps: Added to all eigenvalues of a covariance.
        detach: Whether whitening matrices get no gradient.
        backend: As of ``contrast``.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> loss = WhitenedInfoNCE(4, groups=2)
        >>> loss(torch.eye(4), torch.eye(4), torch.Generator().manual_seed(0)).shape
        torch.Size([])
    """

    def __init__(
        self,
        dim: int,
        groups: int = 8,
        num_pos: int = 3,
        temperature: Temperature = 0.05,
        *,
        eps: float = 1e-5,
        detach: bool = False,
        backend: Backend = "auto",
    ) -> None:
        check_groups(dim, groups)
        check_positive(eps=eps)
        check_counts(num_pos=num_pos)
        super().__init__(
            temperature, backend, None, dim=dim, groups=groups, num_pos=num_pos, eps=eps, detach=detach
        )

    def forward(self, first: Tensor, second: Tensor, rng: torch.Generator) -> Tensor:
        """Scalar loss.

        Args:
            first: Anchors, shape ``(N, dim)`` with N at least 2.
            second: The view to whiten, same shape as ``first``.
            rng: Draws the partitions, on the CPU.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(2, self.config["dim"], first=first, second=second)
        dim, groups, num_pos, eps, detach = (
            self.config[name] for name in ("dim", "groups", "num_pos", "eps", "detach")
        )
        permutations = [torch.randperm(dim, generator=rng) for _ in range(num_pos)]
        keys = [
            shuffled_group_whitening(second, groups, order, eps=eps, detach=detach) for order in permutations
        ]
        anchors = at_least_float32(first).expand(num_pos, *first.shape)
        return self._contrast(anchors, torch.stack(keys))
