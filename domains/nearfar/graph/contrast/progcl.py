r"""ProGCL: GRACE with negatives weighted by how hard and how likely true they are (Xia et al., ICML 2022).

Of a negative j of node i, with the between-view cosine :math:`c_{ij} = \cos(h^1_i, h^2_j)`, s = (c + 1) / 2 and a
mixture of two Beta distributions fitted to s,

.. math::
    B_{ij} &= p(\text{true} \mid s_{ij})\, s_{ij}, \qquad w_{ij} = B_{ij} \Big/ \frac{1}{n-1} \sum_{l \neq i} B_{il} \\
    \ell_i &= -\log \frac{e^{c_{ii} / \tau}}
        {e^{c_{ii} / \tau} + \sum_{j \neq i} w_{ij} (e^{c_{ij} / \tau} + e^{c^1_{ij} / \tau})}

with :math:`c^1` the cosines inside the first view, and the same with the views exchanged. Weights get no gradient.

Differs from the official code: it computes B once, when the mixture is fitted, keeps the n x n matrix and in
mini-batches applies it to other nodes than it was computed of. Here the mixture is kept and B is of the
present cosines, tile by tile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.graph.contrast.beta_mixture import BetaMixture, fit_beta_mixture
from nearfar.graph.contrast.grace import grace_loss
from nearfar.objectives import contrast
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import LogWeight, NotSelf
from nearfar.objectives.positives import Pairs
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views

# Cosines at a time when rows of B are summed.
_BLOCK = 1 << 22


def progcl_loss(
    h1: Tensor, h2: Tensor, mixture: BetaMixture | None, *, temperature: Temperature = 0.5
) -> Tensor:
    """Mean over nodes and both directions, a scalar.

    Args:
        h1: Projections in the first view, shape ``(n, d)``.
        h2: In the second view, same shape; row i is the same node.
        mixture: Of :func:`fit_mixture`; ``None`` before it is fitted, when the loss is GRACE's.
        temperature: As of :func:`nearfar.objectives.contrast`.

    Raises:
        ValueError: If the shapes or values do not fit.

    Example:
        >>> even = BetaMixture(torch.ones(2), torch.ones(2), torch.ones(2) / 2)
        >>> round(progcl_loss(torch.ones(4, 2), torch.ones(4, 2), even).item(), 4)  # equal weights: log 7
        1.9459
    """
    if mixture is None:
        return grace_loss(h1, h2, temperature=temperature)
    check_views(h1=h1, h2=h2)
    return (_one_way(h1, h2, mixture, temperature) + _one_way(h2, h1, mixture, temperature)) / 2


def hardness_weights(h1: Tensor, h2: Tensor, mixture: BetaMixture) -> LogWeight:
    """The weights w of the keys of the other view and, after them, the same again for those of the row's own view.

    Args:
        h1: Rows, shape ``(n, d)``.
        h2: The other view, same shape.
        mixture: Which similarities are those of true negatives.

    Returns:
        A rule for n rows and 2 n keys; a node is to itself of weight 1.
    """
    rows, keys = (smooth_normalize(at_least_float32(h.detach())) for h in (h1, h2))
    n, every, tiny = len(rows), torch.arange(len(rows), device=rows.device), torch.finfo(rows.dtype).tiny

    def weights(i: Tensor, j: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            return hardness(rows[i] @ keys[j].T, mixture)

    def row_mean(i: Tensor) -> Tensor:
        return weights(i, every).masked_fill_(i[:, None] == every, 0).sum(1) / max(1, n - 1)

    mean = torch.cat([row_mean(i) for i in every.split(max(1, _BLOCK // n))]).clamp(min=tiny)[:, None]

    def log_weight(row: Tensor, key: Tensor) -> Tensor:
        i, j = row[:, 0], key[0] % n
        relative = weights(i, j).div_(mean[i]).clamp_(min=tiny)
        return relative.log_().masked_fill_(i[:, None] == j, 0)

    return LogWeight(log_weight)


def hardness(cosine: Tensor, mixture: BetaMixture) -> Tensor:
    """B: how near a negative is, times the probability that it is a true one.

    Args:
        cosine: Between-view cosines, shape ``(...,)``.
        mixture: Which similarities are those of true negatives.

    Returns:
        In [0, 1], same shape as ``cosine``.
    """
    s = ((cosine + 1) / 2).clamp_(0, 1)
    return mixture.posterior(s).mul_(s)


@torch.no_grad()
def fit_mixture(h1: Tensor, h2: Tensor, generator: torch.Generator, columns: int = 100) -> BetaMixture:
    """The mixture of between-view similarities of all rows to some random keys.

    Args:
        h1: Projections in the first view, shape ``(n, d)``.
        h2: In the second view, same shape.
        generator: Source of the choice of keys.
        columns: How many keys.

    Raises:
        ValueError: If the shapes or values do not fit.
    """
    check_views(h1=h1, h2=h2)
    chosen = torch.randperm(len(h2), generator=generator, device=generator.device)[:columns].to(h2.device)
    u1, u2 = (smooth_normalize(at_least_float32(h)) for h in (h1, h2[chosen]))
    return fit_beta_mixture((u1 @ u2.T + 1).div(2).clamp(0, 1).flatten())


def _one_way(q: Tensor, k: Tensor, mixture: BetaMixture, temperature: Temperature) -> Tensor:
    """Rows of q look for themselves in k, among all of k and the others of q."""
    rule = NotSelf(len(q)) & hardness_weights(q, k, mixture)
    itself = torch.arange(len(q), device=q.device)
    return contrast(
        q, torch.cat([k, q]), positives=Pairs(itself, itself), denominator=rule, temperature=temperature
    )
