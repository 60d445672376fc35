r"""How differently the views of a sample are found (MRV, 1-to-K contrastive learning, Nie et al., KDD 2024).

.. math:: \mathrm{MRV} = \frac{1}{N K} \sum_i \sum_c \left( r_{ic} - \frac{1}{K} \sum_{c'} r_{ic'} \right)^2

where r_ic is the rank, from 1, of row i of view c among all rows of view c, by their cosine with row i of the first
view. 0 if every view finds its row at the same place, be that good or bad: a metric beside recall, not instead of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives.maxima import beats
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_more, check_views


@torch.no_grad()
def mean_rank_variance(first: Tensor, more: Tensor) -> Tensor:
    """Variance over views of the rank at which a row is found, averaged over rows; tile by tile, no gradient.

    Args:
        first: Queries, shape ``(N, d)``.
        more: K views of the same rows, each searched by itself, shape ``(K, N, d)``.

    Returns:
        Scalar, at least 0. Ties count against the own row.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> x = torch.eye(3)
        >>> mean_rank_variance(x, torch.stack([x, x])).item()
        0.0
        >>> mean_rank_variance(x, torch.stack([x, -x])).item()  # ranks 1 and 3
        1.0
    """
    check_views(first=first)
    check_more("more", more, first, least=1)
    with torch.autocast(first.device.type, enabled=False):
        queries = smooth_normalize(at_least_float32(first))
        ranks = torch.stack([_ranks(queries, smooth_normalize(at_least_float32(keys))) for keys in more])
        return ranks.to(queries.dtype).var(0, correction=0).mean()


def _ranks(queries: Tensor, keys: Tensor) -> Tensor:
    """How many keys the own one does not beat, itself included, shape ``(N,)``."""
    own = (queries * keys).sum(1, keepdim=True)

    def of_rows(rows: Tensor, value: Tensor) -> Tensor:
        return (~beats(value, rows @ keys.mT)).sum(1)

    return by_row_tiles(of_rows, queries, own, width=len(keys))
