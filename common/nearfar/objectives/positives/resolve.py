"""From what the user says about positives to what the loss needs."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nearfar.objectives.positives.labels import labels_of
from nearfar.objectives.positives.matrix import matrix_of
from nearfar.objectives.positives.other_groups import OtherGroups, other_groups_of
from nearfar.objectives.positives.pairs import Pairs, pairs_of
from nearfar.objectives.positives.resolved import Resolved
from nearfar.objectives.positives.shifts import following, paired, stacked
from nearfar.objectives.positives.soft import Soft, soft_of

Positives: TypeAlias = (
    Literal["paired"]
    | tuple[Literal["paired", "next"], int]
    | Tensor
    | tuple[Tensor, Tensor]
    | OtherGroups
    | Pairs
    | Soft
)


def resolve(
    positives: Positives, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> tuple[Resolved, Resolved]:
    """The positives as the rows see them, and as the keys see them.

    Args:
        positives: As given to ``contrast``.
        lead: Leading dimensions of ``q``.
        num_rows: Rows of ``q``.
        num_keys: Rows of ``k``.
        itself: Whether ``q`` is contrasted with itself.

    Raises:
        ValueError: If they do not fit, or cannot be read.
    """
    if isinstance(positives, Pairs):
        return pairs_of(positives, lead, num_rows, num_keys, itself=itself)
    if isinstance(positives, OtherGroups):
        return other_groups_of(positives, lead, num_rows, num_keys, itself=itself)
    if isinstance(positives, Soft):
        return soft_of(positives, lead, num_rows, num_keys, itself=itself)
    if isinstance(positives, Tensor):
        if positives.is_floating_point() or positives.dtype == torch.bool:
            return matrix_of(positives, lead, num_rows, num_keys, itself=itself)
        if not itself and num_rows != num_keys:
            raise ValueError(
                f"positives: labels of both sides, (q_labels, k_labels), expected for {num_rows} rows and "
                f"{num_keys} keys, got one tensor"
            )
        return labels_of(positives, positives, lead, num_rows, num_keys, itself=itself)
    if isinstance(positives, str):
        if positives == "paired":
            return paired(num_rows, num_keys, itself=itself)
    elif isinstance(positives, tuple) and len(positives) == 2:
        first, second = positives
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return labels_of(first, second, lead, num_rows, num_keys, itself=itself)
        if first == "paired" and type(second) is int:
            return stacked(second, num_rows, itself=itself)
        if first == "next" and type(second) is int:
            return following(second, num_rows, num_keys)
    raise ValueError(
        "positives: 'paired', ('paired', N), ('next', s), labels, (q_labels, k_labels), OtherGroups, Pairs, "
        f"Soft or a weight matrix (N, M) expected, got {positives!r}"
    )
