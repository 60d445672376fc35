r"""What a view is trained for: keep little, stay close (Principle of Relevant Information; AutoTCL, eq. 8).

.. math:: L_{PRI} = \beta \frac{1}{B} \sum_i \|h(x_i)\|_0 + d\bigl(\{p(f(x_i))\}, \{p(f(v^*_i))\}\bigr)

The number of kept steps enters by its expectation, as a share (``l0``) or as printed (``l0_sum``); d is a
:func:`~nearfar.objectives.mmd.divergence`. The published program has a hinge on the mean probability, added up
over channels, instead: only what exceeds 0.4 costs.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from nearfar.timeseries.autotcl.gate import Gate

FREE = 0.4


def price(logits: Tensor, gate: Gate, kind: Literal["l0", "l0_sum", "hinge"] = "l0") -> Tensor:
    """What the kept steps of a batch cost at beta = 1, a scalar.

    Args:
        logits: Of keeping a step, shape ``(B, T, A)``.
        gate: Turns them into probabilities.
        kind: ``l0``: share of steps kept; ``l0_sum``: their number; ``hinge``: as published program.

    Example:
        >>> import torch
        >>> from nearfar.timeseries.autotcl.gate import HardConcrete
        >>> sure = torch.full((2, 8, 1), 30.0)
        >>> price(sure, HardConcrete()).item(), price(sure, HardConcrete(), "l0_sum").item()
        (1.0, 8.0)
    """
    if kind == "hinge":
        return (logits.sigmoid().sum(2).mean() - FREE).relu()
    kept = gate.keep_probability(logits)
    return kept.mean() if kind == "l0" else kept.sum(1).mean()
