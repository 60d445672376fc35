"""Micro and macro F1 of predicted classes."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.errors import DataError


def f1_scores(y_true: Tensor, y_pred: Tensor, num_classes: int) -> tuple[float, float]:
    """Micro and macro F1; with one class a node, micro F1 is the accuracy.

    Args:
        y_true: Classes, int64, shape ``(N,)``.
        y_pred: Predicted classes, int64, shape ``(N,)``.
        num_classes: Classes are in ``[0, num_classes)``.

    Returns:
        Micro F1, and the mean F1 of the classes that occur in either argument, as scikit-learn has it.

    Raises:
        DataError: If there are no nodes, numbers of nodes differ, or a class is out of range.

    Example:
        >>> f1_scores(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2]), num_classes=4)
        (0.75, 0.7777777777777777)
    """
    if y_true.dim() != 1 or y_true.shape != y_pred.shape or len(y_true) == 0:
        raise DataError(
            f"y_true, y_pred: two times the same shape (N,) expected, N > 0, got {tuple(y_true.shape)} and "
            f"{tuple(y_pred.shape)}"
        )
    for name, y in (("y_true", y_true), ("y_pred", y_pred)):
        if y.min() < 0 or y.max() >= num_classes:
            raise DataError(f"{name}: classes must be in [0, {num_classes}), got {y.min()} to {y.max()}")
    pairs = torch.bincount(y_true * num_classes + y_pred, minlength=num_classes**2)
    confusion = pairs.view(num_classes, num_classes).double()
    hits = confusion.diagonal()
    # 2 TP + FP + FN: zero for exactly the classes that occur in neither.
    total = confusion.sum(0) + confusion.sum(1)
    f1 = 2 * hits[total > 0] / total[total > 0]
    return (hits.sum() / len(y_true)).item(), f1.mean().item()
