r"""Every step against others of its series and other series, at all scales (TS2Vec, Yue et al., AAAI 2022).

Two views show the same steps. A step of one view has to pick itself in the other view among the other steps of
its series, and among the same step of the other series; then neighbouring steps are pooled in pairs, and again, until
one is left:

.. math:: L = \frac{1}{S} \sum_{s=0}^{S-1} \lambda L_{series}(z^{(s)}) + (1 - \lambda) L_{steps}(z^{(s)}), \qquad
          z^{(s+1)}_t = \max(z^{(s)}_{2t}, z^{(s)}_{2t+1})

(equations 1 to 3 and algorithm 1). Both are the shared contrast of dot products: other rows of either view are
negatives. Scales that have a single step have no L_steps. Steps that are missing are nobody's negative; the published
code has them among all others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.objectives import contrast


def hierarchical_contrast(
    first: Tensor,
    second: Tensor,
    valid: Tensor | None = None,
    *,
    temperature: float = 1.0,
    among_series: float = 0.5,
) -> Tensor:
    """Mean over scales, a scalar; 0 where there is nobody to pick among.

    Args:
        first: Representations of every step, shape ``(B, T, D)``.
        second: Those of the same steps in the other view, same shape.
        valid: Steps that count, bool, shape ``(B, T)``; ``None`` for all.
        temperature: Of the softmax.
        among_series: lambda, in [0, 1].

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> z = torch.zeros(2, 4, 3)
        >>> round(hierarchical_contrast(z, z).item(), 4)  # of chance: log 3 among series, log 7 and log 3 among steps
        1.0567
    """
    if first.shape != second.shape or first.dim() != 3:
        raise ValueError(
            f"second: shape {tuple(first.shape)} as first expected, (B, T, D), got {tuple(second.shape)}"
        )
    valid = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device) if valid is None else valid
    losses = []
    while True:
        series = _pick(first.transpose(0, 1), second.transpose(0, 1), valid.T, temperature)
        loss = among_series * series
        if first.shape[1] > 1 and among_series < 1:
            loss = loss + (1 - among_series) * _pick(first, second, valid, temperature)
        losses.append(loss)
        if first.shape[1] == 1:
            return torch.stack(losses).mean()
        first, second, valid = _halved(first, valid), _halved(second, valid), _pairs(valid).any(2)


def _pick(first: Tensor, second: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Each row its other view among all rows of both, in every problem: shape ``(P, N, D)``, ``valid`` ``(P, N)``."""
    both = torch.cat([valid, valid], 1)
    never = torch.finfo(first.dtype).min / 4  # finite: times a weight of 0 it is 0
    return contrast(
        torch.cat([first, second], 1),
        positives=("paired", first.shape[1]),
        key_log_weight=torch.zeros_like(both, dtype=first.dtype).masked_fill(~both, never),
        row_weight=both.to(first.dtype),
        temperature=temperature,
        similarity="dot",
        on_empty="zero",
    )


def _halved(z: Tensor, valid: Tensor) -> Tensor:
    """Maximum of the valid ones of steps 2t and 2t + 1; zero without any; a last odd step is left out."""
    pairs, counted = z[:, : z.shape[1] // 2 * 2].unflatten(1, (-1, 2)), _pairs(valid)
    found = torch.where(counted[..., None], pairs, -torch.inf).amax(2)
    return torch.where(counted.any(2)[..., None], found, 0)


def _pairs(valid: Tensor) -> Tensor:
    whole: Tensor = valid[:, : valid.shape[1] // 2 * 2]
    return whole.unflatten(1, (-1, 2))  # type: ignore[no-any-return]
