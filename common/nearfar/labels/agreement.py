"""Which labels their neighbours agree with: a filter for wrong labels that leaves small classes alone.

Items that look alike mostly share a class, so the label of most neighbours is more often right than the one an item
came with. Votes are divided by the size of the class voted for: otherwise the largest classes would outvote every
item of a small one. Needs no classifier and no folds, so a class may have a single item.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, as_array, class_codes, class_counts
from nearfar.neighbors import feature_rows, nearest


def default_neighbors(n: int) -> int:
    """Neighbours that vote by default: 10 up to 1,000 items, then growing as a power of n to 50 at 10,000.

    Args:
        n: Items.

    Example:
        >>> [default_neighbors(n) for n in (100, 1_000, 3_000, 10_000, 10**6)]
        [10, 10, 22, 50, 50]
    """
    grown = 10 * math.pow(max(n, 1) / 1000, math.log10(5))
    return min(max(round(grown), 10), 50)


@torch.no_grad()
def label_agreement(
    features: Tensor | NDArray[Any], labels: Values, *, k: int | None = None, num_classes: int | None = None
) -> Tensor:
    """How much the nearest other items, by cosine, vote for the label an item has; from 0 to 1.

    With m_j of the k neighbours carrying label j, and n_j of all items, the score of an item of label y is
    ``(m_y / n_y) / sum over j of (m_j / n_j)``.

    Args:
        features: Shape ``(n, d)``.
        labels: Class codes as given, possibly wrong, shape ``(n,)``.
        k: Neighbours that vote, ``n - 1`` if there are no more; by default :func:`default_neighbors`.
        num_classes: K, only to check the codes.

    Returns:
        Shape ``(n,)``, in the precision and on the device of ``features``. A row of zeros points nowhere: it gets
        the score that all items voting would give it, one over the number of classes; so does an only item. The
        only item of its class has score 0, since nobody else can vote for it.

    Raises:
        ConfigError: If ``k`` is below 1.
        DataError: If features are not finite, or labels are no class codes, one a row.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
        >>> [round(score, 2) for score in label_agreement(features, [0, 0, 1, 1, 1, 1], k=2).tolist()]
        [0.67, 0.67, 0.0, 1.0, 1.0, 1.0]
    """
    rows = feature_rows("features", features)
    given = class_codes("labels", labels, num_classes)
    if len(given) != len(rows):
        raise DataError(f"labels: one label for each of the {len(rows)} rows expected, got {len(given)}")
    if k is not None and k < 1:
        raise ConfigError(f"k: at least 1 neighbour expected, got {k}")
    sizes = class_counts(given)
    chance = 1 / max(int(np.count_nonzero(sizes)), 1)
    k = min(default_neighbors(len(rows)) if k is None else k, len(rows) - 1)
    if k < 1:
        return rows.new_full((len(rows),), chance)
    codes = torch.from_numpy(given).to(rows.device)
    weight = torch.from_numpy(1 / np.maximum(sizes, 1)).to(rows.device)
    voters = codes[nearest(rows, k, metric="cosine")[1]]
    vote = weight[voters]
    score = (vote * (voters == codes[:, None])).sum(1) / vote.sum(1)
    return score.masked_fill((rows == 0).all(1), chance).to(rows.dtype)


def keep_most(scores: Tensor | NDArray[Any], labels: Values, share: float, least: int = 2) -> Tensor:
    """Mark the best share of every class.

    Args:
        scores: The larger, the better, shape ``(n,)``.
        labels: Class codes, shape ``(n,)``.
        share: Of the items of a class, in (0, 1]; their number is rounded up.
        least: Items that a class keeps at least, or all it has.

    Returns:
        Mask, shape ``(n,)``, on the device of the scores. Of equal scores the lower row is kept.

    Raises:
        ConfigError: If ``share`` is not in (0, 1] or ``least`` is negative.
        DataError: If a score is NaN, or labels are no class codes, one a score.

    Example:
        >>> keep_most(torch.tensor([0.1, 0.9, 0.5, 0.7]), [0, 0, 0, 1], 0.5, least=1).tolist()
        [False, True, True, True]
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share: a share in (0, 1] expected, got {share}")
    if least < 0:
        raise ConfigError(f"least: at least 0 items expected, got {least}")
    values, given = as_array(scores), class_codes("labels", labels)
    if values.shape != given.shape:
        raise DataError(f"scores: shape {given.shape} expected, one a label, got {values.shape}")
    if len(wrong := np.flatnonzero(np.isnan(values))):
        raise DataError(f"scores: numbers expected, got NaN in row {wrong[0]} ({len(wrong)} such rows)")
    sizes = class_counts(given)
    # Less a hair: 0.6 of 5 items are 3, and not one more because the product is 3.0000000000000004.
    room = np.minimum(np.maximum(np.ceil(share * sizes - 1e-9).astype(np.int64), least), sizes)
    order = np.lexsort((-values, given))
    place = np.arange(len(given)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.zeros(len(given), dtype=bool)
    kept[order] = place < room[given[order]]
    return torch.from_numpy(kept).to(scores.device if isinstance(scores, Tensor) else "cpu")
