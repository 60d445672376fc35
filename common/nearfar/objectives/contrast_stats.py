"""What a contrast knows beside its loss: numbers to watch for collapse and for easy or false negatives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ContrastStats:
    """Detached by-products of :func:`contrast`, rows over keys.

    Attributes:
        lse: Log-sum-exp over the denominator, shape ``(..., N)``; minus infinity where it is empty.
        positive: Mean logit of the positives, shape ``(..., N)``; 0 where there is none.
        positive_weight: Number (total weight) of the positives, shape ``(..., N)``.
        denominator_size: Keys in the denominator, shape ``(..., N)``, int64.
        top1: Whether the positive beats every negative, shape ``(..., N)``, bool.
        valid: Whether the row counts in the mean, shape ``(..., N)``, bool.
    """

    lse: Tensor
    positive: Tensor
    positive_weight: Tensor
    denominator_size: Tensor
    top1: Tensor
    valid: Tensor

    def summary(self) -> dict[str, float]:
        """Means over the rows that count, by name, for a tracker."""
        valid = self.valid
        values = {
            "positive_logit": self.positive[valid],
            "lse": self.lse[valid],
            "denominator_size": self.denominator_size[valid],
            "top1": self.top1[valid],
        }
        means = {name: value.double().mean().item() for name, value in values.items()}
        # 0 at chance: how much the denominator knows beyond the number of its keys.
        excess = self.lse[valid].double() - self.denominator_size[valid].double().log()
        return {**means, "lse_excess": excess.mean().item()}
