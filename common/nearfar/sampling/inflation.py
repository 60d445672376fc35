r"""Generated rows beside real ones, without drowning them (AdaInf, Wang et al., ICLR 2024).

.. math:: P(\text{real}) = \frac{m \, n_{\mathrm{real}}}{m \, n_{\mathrm{real}} + n_{\mathrm{generated}}}

The paper trains on the real rows m times over and the generated ones once, m = 10, under weaker augmentations. Here no
row is copied: real rows are drawn m times as often.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.checks import check_counts, check_weights
from nearfar.runtime import generator


class InflationSampler:
    """Rows of every step, drawn with replacement; a function of seed and step.

    Real rows are numbered first: rows from ``num_real`` on are generated.

    Args:
        num_real: Real rows, at least 1.
        num_generated: Generated rows; 0 for none.
        m: How many times as often as a generated row a real one is drawn: 1 treats them alike (vanilla inflation),
            infinity never draws a generated one, 0 never a real one.
        seed: Of the draws.

    Attributes:
        num_real: As given.
        num_generated: As given.
        m: As given.

    Raises:
        ValueError: If a number is out of range, or no row could be drawn.

    Example:
        >>> sampler = InflationSampler(2, 100, m=math.inf)
        >>> set(sampler.rows(0, 50).tolist())
        {0, 1}
    """

    def __init__(self, num_real: int, num_generated: int, m: float = 10.0, *, seed: int = 0) -> None:
        self._generated_share = generated_share(num_real, num_generated, m)
        self.num_real, self.num_generated, self.m, self.seed = num_real, num_generated, m, seed

    def rows(self, step: int, count: int) -> Tensor:
        """Rows of a step, or of an epoch: whatever the caller counts.

        Args:
            step: Which one.
            count: How many rows.

        Returns:
            int64, shape ``(count,)``, below ``num_real + num_generated``.

        Raises:
            ValueError: If ``count`` is negative.
        """
        if count < 0:
            raise ValueError(f"count: 0 or more expected, got {count}")
        rng = generator(self.seed, "inflation", step)
        which, place = torch.rand(2, count, generator=rng, dtype=torch.float64)
        generated = which < self._generated_share
        size = torch.where(generated, self.num_generated, self.num_real)
        row = (place * size).long().minimum(size - 1)
        return torch.where(generated, row + self.num_real, row)


def generated_share(num_real: int, num_generated: int, m: float = 10.0) -> float:
    """Share of generated rows among those drawn.

    Args:
        num_real: Real rows.
        num_generated: Generated rows.
        m: Weight of a real row, that of a generated one being 1; infinity for real rows only.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: If a number is out of range, or no row could be drawn.

    Example:
        >>> generated_share(10, 100)
        0.5
    """
    check_counts(num_real=num_real)
    if num_generated < 0:
        raise ValueError(f"num_generated: 0 or more expected, got {num_generated}")
    if not m >= 0:
        raise ValueError(f"m: a number of at least 0 expected, got {m}")
    if m == 0 and num_generated == 0:
        raise ValueError("m: above 0 expected without generated rows, got 0")
    return 0.0 if math.isinf(m) else num_generated / (m * num_real + num_generated)


def coupled_strength(
    num_real: int,
    num_generated: int,
    m: float = 10.0,
    *,
    strongest: float = 1.0,
    weakest: float = 0.25,
) -> float:
    r"""Strength of augmentations that falls as the share of generated rows rises.

    The paper finds that the two should be traded and tunes them by hand; that the trade is a straight line,

    .. math:: \mathrm{strongest} - (\mathrm{strongest} - \mathrm{weakest}) \cdot \mathrm{share},

    is our own. With one million generated to 50,000 real rows and m = 10 the default is 0.5, the factor by
    which the paper lowers the probability of colour jitter on CIFAR (0.8 to 0.4).

    Args:
        num_real: Real rows.
        num_generated: Generated rows.
        m: As of :class:`InflationSampler`.
        strongest: Strength without generated rows.
        weakest: Strength if all rows are generated, at most ``strongest``.

    Returns:
        Between the two.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> coupled_strength(50_000, 1_000_000)
        0.5
        >>> coupled_strength(50_000, 1_000_000, math.inf)
        1.0
    """
    check_weights(strongest=strongest, weakest=weakest)
    if weakest > strongest:
        raise ValueError(f"weakest: at most strongest={strongest} expected, got {weakest}")
    return strongest - (strongest - weakest) * generated_share(num_real, num_generated, m)
