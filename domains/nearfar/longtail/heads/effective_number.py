"""Weights of classes by their effective number of items (Cui et al., CVPR 2019, section 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, as_array


def effective_number_weights(counts: Values, beta: float = 0.9999) -> Tensor:
    """``(1 - beta) / (1 - beta^n)`` of each class, rescaled to sum to the number of classes with items.

    Args:
        counts: Items of each class, shape ``(K,)``.
        beta: In [0, 1): 0 weighs all classes the same, near 1 by the inverse of their size.

    Returns:
        Float64, shape ``(K,)``; 0 for a class without items.

    Raises:
        ConfigError: If ``beta`` is not in [0, 1).
        DataError: If a count is negative or not finite, or no class has items.

    Example:
        >>> [round(weight, 3) for weight in effective_number_weights([1, 2, 0], 0.5).tolist()]
        [1.2, 0.8, 0.0]
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta: a number of at least 0 and below 1 expected, got {beta}")
    sizes = class_sizes(counts)
    # By logarithms: 1 - beta^n loses its digits where beta^n is nearly 1.
    effective = 1.0 - (sizes == 0).double() if beta == 0 else -torch.expm1(sizes * math.log(beta))
    weight = torch.where(sizes > 0, (1 - beta) / effective, 0)
    return weight * ((sizes > 0).sum() / weight.sum())


def class_sizes(counts: Values) -> Tensor:
    """Counts as float64 on the CPU.

    Args:
        counts: Items of each class, shape ``(K,)``.

    Raises:
        DataError: If a count is negative or not finite, or no class has items.
    """
    array = as_array(counts)
    sizes = torch.as_tensor(array, dtype=torch.float64)
    if sizes.dim() != 1 or not bool((sizes.isfinite() & (sizes >= 0)).all()) or not bool(sizes.any()):
        raise DataError(f"counts: items of each class, at least one in all, expected, got {array.tolist()}")
    return sizes
