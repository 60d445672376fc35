r"""GRACE: every node picks its other view among all nodes of both views (Zhu et al., 2020, eq. 1).

.. math::
    \ell(h^1_i, h^2_i) = -\log \frac{e^{c(h^1_i, h^2_i) / \tau}}
        {\sum_j e^{c(h^1_i, h^2_j) / \tau} + \sum_{j \neq i} e^{c(h^1_i, h^1_j) / \tau}}

with the cosine c of projections :math:`h = W_b\, \mathrm{ELU}(W_a z)`, averaged over nodes and both directions:
NT-Xent. GCA's loss is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.objectives import contrast
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.views import check_views
from nearfar.runtime import isolated_rng

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Projector(nn.Module):
    """Two linear layers with an ELU between, back to the width they came from.

    Args:
        dim: Width of the embeddings.
        hidden: Width between the layers.
        generator: Source of the initial weights.

    Example:
        >>> Projector(8, 4)(torch.zeros(3, 8)).shape
        torch.Size([3, 8])
    """

    def __init__(self, dim: int, hidden: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.inner, self.outer = linear(dim, hidden, generator), linear(hidden, dim, generator)

    def forward(self, z: Tensor) -> Tensor:
        """Projections, shape ``(..., dim)``.

        Args:
            z: Embeddings, same shape.
        """
        h: Tensor = self.outer(F.elu(self.inner(z)))
        return h


def linear(num_in: int, num_out: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear layer with torch's own distribution of initial weights, drawn from a generator.

    Args:
        num_in: Width of the input.
        num_out: Width of the output.
        generator: Source of the draw.
    """
    with isolated_rng():
        layer = nn.Linear(num_in, num_out)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(num_in**-0.5), num_in**-0.5, generator=generator)
    return layer


def grace_loss(
    h1: Tensor, h2: Tensor, *, temperature: Temperature = 0.5, group: ProcessGroup | None = None
) -> Tensor:
    """Mean over nodes and both directions, a scalar.

    Args:
        h1: Projections in the first view, shape ``(n, d)``.
        h2: In the second view, same shape; row i is the same node.
        temperature: As of :func:`nearfar.objectives.contrast`.
        group: Process group whose nodes are contrasted as one batch.

    Raises:
        ValueError: If the shapes or values do not fit.

    Example:
        >>> round(grace_loss(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # chance: log 7
        1.9459
    """
    check_views(h1=h1, h2=h2)
    return contrast(torch.cat([h1, h2]), positives=("paired", len(h1)), temperature=temperature, group=group)
