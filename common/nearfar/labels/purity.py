"""How many of the labels that a filter kept are right, where true labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nearfar.errors import DataError
from nearfar.labels.codes import Values, as_array, class_codes


@dataclass(frozen=True)
class Purity:
    """Shares of right labels among the rows that were kept.

    Attributes:
        share_kept: Of all rows; 0 without rows.
        overall: Share of right labels, ``None`` if nothing was kept.
        by_class: The same by given label, for the classes of which something was kept.
        subset: The same over all rows whose given label is one of the chosen classes, ``None`` without such rows.
    """

    share_kept: float
    overall: float | None
    by_class: dict[int, float]
    subset: float | None = None


def purity(
    true: Values, given: Values, kept: Values | None = None, *, subset: Values | None = None
) -> Purity:
    """Compare given labels with the true ones among the rows that were kept.

    Args:
        true: Class codes, shape ``(n,)``.
        given: Class codes, possibly wrong, shape ``(n,)``.
        kept: Mask, shape ``(n,)``; all rows by default.
        subset: Given labels to look at by themselves, such as the tail, shape ``(c,)``.

    Raises:
        DataError: If these are no class codes or no mask, or their lengths differ.

    Example:
        >>> purity([0, 0, 1, 1], [0, 1, 1, 1], [True, True, True, False], subset=[1])
        Purity(share_kept=0.75, overall=0.6666666666666666, by_class={0: 1.0, 1: 0.5}, subset=0.5)
    """
    right, label = class_codes("true", true), class_codes("given", given)
    mask = np.ones(len(label), bool) if kept is None else as_array(kept)
    if right.shape != label.shape or mask.shape != label.shape or mask.dtype != bool:
        raise DataError(
            f"true, given, kept: two label arrays and a mask of one length expected, got shapes {right.shape}, "
            f"{label.shape} and {mask.shape} of {mask.dtype}"
        )
    label, hit = label[mask], (right == label)[mask]
    chosen = np.isin(label, class_codes("subset", () if subset is None else subset))
    return Purity(
        share_kept=len(label) / max(len(mask), 1),
        overall=_mean(hit),
        by_class={int(k): float(hit[label == k].mean()) for k in np.unique(label)},
        subset=_mean(hit[chosen]),
    )


def _mean(hit: Any) -> float | None:
    return float(hit.mean()) if len(hit) else None
