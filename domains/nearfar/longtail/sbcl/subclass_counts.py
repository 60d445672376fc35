r"""Into how many subclasses every class is cut: about as large as the smallest class, none below delta.

.. math:: M = \max(\min_c n_c, \delta), \qquad m_c = \max(1, \lfloor n_c / M \rfloor)

(SBCL, Hou et al., ICCV 2023, section 3.2 and eq. 3.) The paper wants no subclass above M and counts as above, which
cannot both be: sizes reach 2 M - 1. Rounded up, none is above M.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import ConfigError
from nearfar.labels.codes import Values, as_array


def subclass_counts(
    counts: Values, delta: int = 10, rounding: Literal["floor", "ceil"] = "floor"
) -> NDArray[np.int64]:
    """Number of subclasses of every class.

    Args:
        counts: Rows of every class, shape ``(K,)``; classes without rows do not count as the smallest.
        delta: Size of a subclass at least.
        rounding: ``floor`` as the released code, sizes from M to 2 M - 1; ``ceil``, none above M.

    Returns:
        Shape ``(K,)``; 0 for a class without rows, 1 for one that stays whole.

    Raises:
        ConfigError: If ``delta`` is below 1, or the rounding is neither.

    Example:
        >>> subclass_counts([500, 50, 20, 5, 0]).tolist()
        [50, 5, 2, 1, 0]
    """
    if delta < 1:
        raise ConfigError(f"delta: at least 1 row in a subclass expected, got {delta}")
    if rounding not in ("floor", "ceil"):
        raise ConfigError(f"rounding: floor or ceil expected, got {rounding!r}")
    sizes = as_array(counts).astype(np.int64)
    if not (sizes > 0).any():
        return np.zeros_like(sizes)
    target = max(int(sizes[sizes > 0].min()), delta)
    parts = sizes // target if rounding == "floor" else -(-sizes // target)
    return np.where(sizes > 0, np.maximum(parts, 1), 0)
