r"""Contrast with the hardest keys only (hard negative mining as in Xiong et al., ANCE, ICLR 2021, section 3).

.. math:: \ell_i = -\log \frac{e^{s_{ii}}}{e^{s_{ii}} + \sum_{j \in H(i)} e^{s_{ij}}}, \qquad
          H(i) = \text{the } r \text{ keys most like } q_i \text{, its own left out}

The most similar keys of other rows are often rows of the same kind. A band leaves them out: with (0.5, 0.9) the keys
are looked for among those that are more like the anchor than half of all others, and less than the upper tenth.

Differs from the paper: the keys searched are those of the batch, not of an index built from an older model.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.checks import check_counts, check_features
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views

Band = tuple[float, float]


@torch.no_grad()
def mined_negatives(
    q: Tensor,
    k: Tensor,
    count: int,
    *,
    band: Band | None = None,
    exclude: tuple[Tensor, Tensor] | None = None,
    tile: int | None = None,
) -> Tensor:
    """The keys most like each row by cosine, searched a few rows at a time.

    Args:
        q: Rows, shape ``(N, d)``.
        k: Keys, shape ``(M, d)``. If there are as many as rows, key i is row i's positive and is not found.
        count: Keys wanted for every row.
        band: Share of the other keys that must be less alike, at least and at most: of M' keys ranked from the
            least alike, those from ``band[0] M'`` to ``band[1] M'``, each bound rounded so that the band grows.
            ``None`` for all.
        exclude: Integers of rows ``(N,)`` and of keys ``(M,)``; keys with the row's integer are not found.
        tile: Rows at a time; by default as many as fill one tile.

    Returns:
        Positions among the keys, most alike first, shape ``(N, r)``, int64, where r is ``count`` or what the band
        holds if that is less; -1 in place of excluded keys where nothing else is left.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> k = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.5], [0.0, 1.0]])
        >>> mined_negatives(k, k, 1).flatten().tolist()
        [1, 0, 1, 2]
        >>> mined_negatives(k, k, 1, band=(0, 0.5)).flatten().tolist()  # not the nearest third
        [2, 2, 0, 1]
    """
    first, last = _places(q, k, count, band)
    paired = len(q) == len(k)
    ids = _checked_ids(exclude, q, k)
    rows, keys = (smooth_normalize(at_least_float32(x)) for x in (q, k))
    own = torch.arange(len(q), device=q.device)

    def search(rows: Tensor, own: Tensor, row_ids: Tensor) -> Tensor:
        alike = rows @ keys.T
        if paired:
            alike.scatter_(1, own[:, None], -torch.inf)
        if ids is not None:
            alike.masked_fill_(row_ids[:, None] == ids[1], -torch.inf)
        found, place = alike.topk(last, 1)
        return place.masked_fill(found == -torch.inf, -1)[:, first:]

    by_row = (rows, own, own if ids is None else ids[0])
    with torch.autocast(q.device.type, enabled=False):
        return by_row_tiles(search, *by_row, width=len(k), tile=tile)


def _places(q: Tensor, k: Tensor, count: int, band: Band | None) -> tuple[int, int]:
    """First and last place of what is wanted, counted from the most similar key; checks the arguments."""
    check_features("q", q, shape="(N, d)")
    check_features("k", k, like=q, shape="(M, d)")
    num_others = len(k) - (len(q) == len(k))
    if q.dim() != 2 or k.dim() != 2 or len(q) == 0 or num_others < 1:
        raise ValueError(
            f"k: a key (M, d) beside the own one for every row (N, d) expected, got {tuple(k.shape)} for q "
            f"{tuple(q.shape)}"
        )
    check_counts(count=count)
    low, high = check_band(band)
    first = math.floor(num_others * (1 - high) + 1e-9)
    end = math.ceil(num_others * (1 - low) - 1e-9)
    return first, min(first + count, end)


def check_band(band: Band | None) -> Band:
    """The band, the whole range for ``None``; ValueError unless it is increasing within [0, 1].

    Args:
        band: As of :func:`mined_negatives`.

    Raises:
        ValueError: If it is not.
    """
    low, high = (0.0, 1.0) if band is None else band
    if not 0 <= low < high <= 1:
        raise ValueError(f"band: two shares 0 <= low < high <= 1 expected, got {band}")
    return low, high


def _checked_ids(exclude: tuple[Tensor, Tensor] | None, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor] | None:
    if exclude is None:
        return None
    for ids, features in zip(exclude, (q, k), strict=True):
        if ids.shape != features.shape[:1] or ids.is_floating_point() or ids.is_complex():
            raise ValueError(
                f"exclude: integers of shapes ({len(q)},) and ({len(k)},) expected, got {ids.dtype} of shape "
                f"{tuple(ids.shape)}"
            )
    return exclude


def candidate_cosines(q: Tensor, k: Tensor, candidates: Tensor) -> Tensor:
    """Cosines of every row with keys of its own choice, in O(N r) memory beside one tile of gathered keys.

    Args:
        q: Rows, shape ``(N, d)``.
        k: Keys, shape ``(M, d)``.
        candidates: Positions among the keys, int64, shape ``(N, r)``.

    Returns:
        Shape ``(N, r)``, at least float32; gradients reach ``q`` and ``k``.

    Example:
        >>> candidate_cosines(torch.eye(2), torch.eye(2), torch.tensor([[0, 1], [1, 1]]))
        tensor([[1., 0.],
                [1., 1.]])
    """
    with torch.autocast(q.device.type, enabled=False):
        rows, keys = (smooth_normalize(at_least_float32(x)) for x in (q, k))

        def chosen(rows: Tensor, places: Tensor) -> Tensor:
            return torch.einsum("nd,nrd->nr", rows, F.embedding(places, keys))

        return by_row_tiles(chosen, rows, candidates, width=candidates.shape[1] * q.shape[1])


def positive_and_mined(q: Tensor, k: Tensor, count: int, band: Band | None = None) -> Tensor:
    """Each row's own key, and behind it the keys that :func:`mined_negatives` finds.

    Args:
        q: Rows, shape ``(N, d)``.
        k: Keys, same shape as ``q``; row i belongs to row i of ``q``.
        count: As of :func:`mined_negatives`.
        band: As of :func:`mined_negatives`.

    Returns:
        Positions among the keys, shape ``(N, 1 + r)``.

    Raises:
        ValueError: As of :func:`mined_negatives`.

    Example:
        >>> positive_and_mined(torch.eye(2), torch.eye(2), 1).tolist()
        [[0, 1], [1, 0]]
    """
    own = torch.arange(len(q), device=q.device)
    return torch.cat([own[:, None], mined_negatives(q, k, count, band=band)], 1)


class MinedInfoNCE(SoftmaxObjective):
    """InfoNCE whose denominator holds the positive and the mined keys; with all keys it is InfoNCE.

    Args:
        temperature: A positive number, or a module that returns one.
        count: Negatives of a row.
        band: As of :func:`mined_negatives`.

    Raises:
        ValueError: If ``count`` is below 1 or ``band`` no range of shares.

    Example:
        >>> x = torch.ones(8, 2)
        >>> round(MinedInfoNCE(count=3)(x, x).item(), 4)  # log 4
        1.3863
    """

    def __init__(self, temperature: Temperature = 0.1, *, count: int = 16, band: Band | None = None) -> None:
        check_counts(count=count)
        check_band(band)
        super().__init__(temperature, "auto", None, count=count, band=band)
        self.count, self.band = count, band

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)`` with N at least 2.
            second: Second view, same shape as ``first``.
        """
        check_views(min_rows=2, first=first, second=second)
        candidates = positive_and_mined(first, second, self.count, self.band)
        logits = candidate_cosines(first, second, candidates) / self._current_temperature()
        return F.cross_entropy(logits, torch.zeros_like(candidates[:, 0]))
