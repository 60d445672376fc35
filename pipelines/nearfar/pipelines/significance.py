r"""Whether a difference between two methods is more than the luck of their seeds.

The test is Student's paired t-test over the seeds both were run with, two-sided: with differences :math:`d_s` of n
seeds, :math:`t = \bar d \sqrt n / s_d` on n - 1 degrees of freedom. Wilcoxon's signed-rank test, which does not assume
normal differences, stands beside it from six seeds on (with fewer it cannot fall below 0.05). Several methods against
one reference are several chances of a false alarm: Holm, "A simple sequentially rejective multiple test procedure"
(Scandinavian Journal of Statistics, 1979).

What it can show: that the difference would come out again with other seeds. What it cannot: that it holds on other
data, another split of the same data or other settings - there is one split, and every seed sees the same test set.
A reference that was picked because it scored best has been lucky too, which flatters it; name one beforehand with
``--against`` where the p-value matters. Few seeds find only large effects: "not significant" is not "equal".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nearfar.optional import require

FEWEST_FOR_WILCOXON = 6
CONFIDENCE = 0.95
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A method minus the reference over common seeds; what cannot be computed is ``None``.

    Attributes:
        n: Common seeds.
        mean: Mean difference.
        low: Lower end of the 95 % confidence interval of the mean difference, not corrected for several methods.
        high: Upper end.
        p_value: Of the paired t-test.
        p_holm: The same, corrected over the methods compared with this reference on this metric.
        wilcoxon: p-value of the signed-rank test.
        wilcoxon_holm: The same, corrected.
    """

    n: int
    mean: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    wilcoxon: float | None = None
    wilcoxon_holm: float | None = None


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference | None:
    """Difference of paired values, with its confidence interval and p-values.

    Values that do not vary between seeds are allowed on one side: against a constant, the paired test is the one-sample
    test. One pair gives a difference and nothing else; a difference that is the same for every seed leaves the t-test
    without a spread to divide by, unless it is zero everywhere: then p is 1.

    Args:
        ours: One value per common seed.
        theirs: Values of the reference, same seeds in the same order.

    Returns:
        The difference, ``None`` without a common seed.

    Example:
        >>> found = paired_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])  # t = 2 sqrt(3), 2 degrees of freedom
        >>> round(found.p_value, 4), round(1 - 12**0.5 / 14**0.5, 4)
        (0.0742, 0.0742)
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if not differences:
        return None
    n = len(differences)
    mean = math.fsum(differences) / n
    found = Difference(n, mean)
    if n < 2:
        return found
    if not any(differences):
        found = replace(found, low=0.0, high=0.0, p_value=1.0)
        return replace(found, wilcoxon=1.0) if n >= FEWEST_FOR_WILCOXON else found
    stats = require("scipy.stats", "comparing runs")
    # Below this the spread is the round-off of a subtraction.
    if max(abs(difference - mean) for difference in differences) > 1e-9 * abs(mean):
        test = stats.ttest_1samp(differences, 0.0)
        interval = test.confidence_interval(CONFIDENCE)
        found = replace(found, low=float(interval.low), high=float(interval.high), p_value=float(test.pvalue))
    if n >= FEWEST_FOR_WILCOXON:
        found = replace(found, wilcoxon=float(stats.wilcoxon(differences).pvalue))
    return found


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number by Holm's step-down procedure; ``None`` stays and does not count.

    Args:
        p_values: Of all comparisons of one family.

    Example:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]  # 3 x 0.01; 2 x 0.03; 0.04, not below the one before
        [0.03, 0.06, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[place] = largest
    return corrected


def correct(differences: Mapping[str, Difference | None]) -> dict[str, Difference]:
    """The differences of several methods to one reference, with their Holm-corrected p-values.

    Args:
        differences: By method; those without a common seed are left out.
    """
    known = {name: difference for name, difference in differences.items() if difference is not None}
    by_t = holm([difference.p_value for difference in known.values()])
    by_rank = holm([difference.wilcoxon for difference in known.values()])
    return {
        name: replace(difference, p_holm=p, wilcoxon_holm=q)
        for (name, difference), p, q in zip(known.items(), by_t, by_rank, strict=True)
    }


def verdict(difference: Difference | None) -> str:
    """``win`` or ``loss`` of the reference where the corrected p-value is below 0.05, else ``draw``.

    Args:
        difference: Reference minus baseline.

    Returns:
        Empty without a p-value.

    Example:
        >>> verdict(Difference(5, -0.1, p_value=0.001, p_holm=0.009))
        'loss'
    """
    if difference is None or difference.p_holm is None:
        return ""
    if difference.p_holm >= SIGNIFICANT:
        return "draw"
    return "win" if difference.mean > 0 else "loss"
