"""Long-tailed subsets of balanced data.

The exponential profile: Cui et al., CVPR 2019, section 5.1; the step profile: Buda et al., Neural Networks 2018.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError, DataError
from nearfar.labels.codes import Values, class_codes, class_counts
from nearfar.labels.per_class import rows_per_class
from nearfar.scalars import is_number

Profile: TypeAlias = Literal["exp", "step"]
PROFILES: tuple[str, ...] = get_args(Profile)


def long_tail_counts(
    largest: int, num_classes: int, ratio: float, profile: Profile = "exp"
) -> NDArray[np.int64]:
    """Items of each class: class 0 has the most, the last has ``1 / ratio`` of them, none has fewer than one.

    Args:
        largest: Items of class 0.
        num_classes: K.
        ratio: Of the largest class to the smallest, at least 1; often called rho or the imbalance factor.
        profile: ``"exp"``: ``largest * ratio^(-k / (K - 1))``; ``"step"``: ``largest`` for the first half of the
            classes (``K // 2``), ``largest / ratio`` for the others. Both cut off after the point.

    Returns:
        Shape ``(K,)``.

    Raises:
        ConfigError: If ``largest`` or ``num_classes`` is below 1, ``ratio`` below 1 or not finite, or the profile
            unknown.

    Example:
        >>> long_tail_counts(5000, 10, 100).tolist()
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    if largest < 1 or num_classes < 1:
        raise ConfigError(
            f"largest, num_classes: at least 1 item and 1 class expected, got {largest}, {num_classes}"
        )
    if not is_number(ratio) or not 1 <= ratio < np.inf:
        raise ConfigError(
            f"ratio: a finite number of at least 1 expected, the largest class over the smallest, got {ratio!r}"
        )
    if profile not in PROFILES:
        raise ConfigError(
            f"profile: {profile!r} is unknown; {suggest(profile, PROFILES, 'choose exp or step')}"
        )
    place = np.arange(num_classes)
    if profile == "exp":
        sizes = largest * float(ratio) ** (-place / max(num_classes - 1, 1))
    else:
        sizes = np.where(place < max(num_classes // 2, 1), float(largest), largest / ratio)
    # Without it a class can lose an item to rounding: 5000 / 100 = 49.999999999999986.
    return np.maximum((sizes + 1e-9).astype(np.int64), 1)


def long_tail(
    labels: Values,
    ratio: float,
    *,
    profile: Profile = "exp",
    largest: int | None = None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose rows so that classes have the sizes of :func:`long_tail_counts`, class 0 the most.

    Args:
        labels: Class codes, shape ``(n,)``; every class from 0 to the largest code has items.
        ratio: Of the largest class to the smallest, at least 1.
        profile: How sizes fall, ``"exp"`` or ``"step"``.
        largest: Items of class 0; by default the most for which no class runs out of items.
        rng: Source of the choice within the classes.

    Returns:
        Rows, ascending, shape ``(m,)``.

    Raises:
        ConfigError: If a setting is out of bounds.
        DataError: If a class has too few items, or labels are no class codes.

    Example:
        >>> from nearfar.runtime import numpy_generator
        >>> labels = np.repeat([0, 1, 2], 8)
        >>> labels[long_tail(labels, 4, rng=numpy_generator(0, "tail"))].tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    """
    codes = class_codes("labels", labels)
    available = class_counts(codes)
    if not len(codes):
        raise DataError("labels: no items to choose from")
    if len(empty := np.flatnonzero(available == 0)):
        raise DataError(
            f"labels: class {empty[0]} has no items; number the classes without gaps (encode_labels)"
        )
    if largest is None:
        largest = _most_possible(available, ratio, profile)
    wanted = long_tail_counts(largest, len(available), ratio, profile)
    if len(short := np.flatnonzero(wanted > available)):
        k = short[0]
        raise DataError(
            f"largest: class {k} has {available[k]} items and would need {wanted[k]} for largest={largest} and "
            f"ratio={ratio}; at most largest={_most_possible(available, ratio, profile)} is possible"
        )
    return rows_per_class(codes, wanted, rng)


def _most_possible(available: NDArray[np.int64], ratio: float, profile: Profile) -> int:
    # Sizes grow with that of class 0, so halving finds the last that fits; one item of each class always does.
    low, high = 1, int(available[0])
    while low < high:
        middle = (low + high + 1) // 2
        if (long_tail_counts(middle, len(available), ratio, profile) <= available).all():
            low = middle
        else:
            high = middle - 1
    return low
