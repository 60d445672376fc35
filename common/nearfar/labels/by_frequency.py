"""Any metric that has one value a case, split by how frequent the class or item of the case is."""

from __future__ import annotations

import numpy as np

from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, as_array


def by_frequency(
    values: Values, frequency: Values, *, bounds: tuple[float, float] = (20, 100)
) -> dict[str, float]:
    """Mean over the cases of frequent, medium and rare classes or items; cases count alike.

    Where classes should count alike, as in the tables of long tails, take the mean of each class first, or
    :func:`accuracy_by_frequency`, whose groups these are.

    Args:
        values: One a case, such as a hit, a reciprocal rank or a loss, shape ``(n,)``; NaN for a case
            without one, which is left out.
        frequency: How often the class or item of each case occurs in training, shape ``(n,)``.
        bounds: Below the first is ``"few"``, above the second ``"many"``, all else ``"medium"``.

    Returns:
        By name of the group; one without a case is left out.

    Raises:
        ConfigError: If the bounds are not in order.
        DataError: If these are not numbers, or not as many of the one as of the other.

    Example:
        >>> by_frequency([1.0, 0.0, 0.5, 0.0], [500, 60, 30, 5])
        {'many': 1.0, 'medium': 0.25, 'few': 0.0}
    """
    few, many = bounds
    if not few <= many:
        raise ConfigError(f"bounds: few <= many expected, got {bounds}")
    value, often = _numbers("values", values), _numbers("frequency", frequency)
    if value.shape != often.shape:
        raise DataError(f"frequency: {len(value)} numbers expected, one a value, got {len(often)}")
    if (wrong := np.flatnonzero(np.isnan(often) | (often < 0))).size:
        raise DataError(f"frequency: numbers of 0 or more expected, got {often[wrong[0]]} at {wrong[0]}")
    groups = {"many": often > many, "medium": (often >= few) & (often <= many), "few": often < few}
    there = ~np.isnan(value)
    return {name: float(value[of & there].mean()) for name, of in groups.items() if (of & there).any()}


def _numbers(name: str, values: Values) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = as_array(values)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise DataError(f"{name}: numbers of shape (n,) expected, got {array.dtype} of shape {array.shape}")
    return array.astype(np.float64)
