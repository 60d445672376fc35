"""What several seeds come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MeanStd:
    """Mean and sample standard deviation over the seeds that have a value.

    Attributes:
        mean: Mean.
        std: With n - 1; 0 for one seed.
        n: Seeds.
    """

    mean: float
    std: float
    n: int

    def metrics(self, name: str) -> dict[str, float]:
        """As a run records it: ``<name>_mean``, ``_std`` and ``_n``.

        Args:
            name: Of the metric.
        """
        return {f"{name}_mean": self.mean, f"{name}_std": self.std, f"{name}_n": float(self.n)}

    def percent(self, digits: int = 1) -> str:
        """As a table has it, in %.

        Args:
            digits: After the point.

        Example:
            >>> MeanStd(0.5, 0.0125, 3).percent()
            '50.0 ± 1.2'
        """
        return f"{100 * self.mean:.{digits}f} ± {100 * self.std:.{digits}f}"


def mean_std(values: Sequence[float | None]) -> MeanStd | None:
    """Mean and deviation of the values that there are.

    Args:
        values: One a seed.

    Returns:
        ``None`` if there is none.

    Example:
        >>> mean_std([1.0, None, 3.0])
        MeanStd(mean=2.0, std=1.4142135623730951, n=2)
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    # Not statistics.stdev, which has no answer for values that are not finite but an AttributeError.
    mean = math.fsum(known) / len(known)
    spread = math.fsum((value - mean) ** 2 for value in known) / max(len(known) - 1, 1)
    return MeanStd(mean, math.sqrt(spread), len(known))
