"""Eight causal convolutions, averaged, are one of 128 taps (trend layers of CoST, Woo et al., ICLR 2022).

.. math:: z_t = \\frac18 \\sum_k \\Big( b_k + \\sum_{j<k} W_k[j] u_{t-j} \\Big) = b + \\sum_{j<128} K[j] u_{t-j},
          \\qquad K[j] = \\frac18 \\sum_{k>j} W_k[j]

The eight weights stay the parameters: Adam on their sum would be another optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SCALES = (1, 2, 4, 8, 16, 32, 64, 128)
TAPS = SCALES[-1]


class _Collapse(torch.autograd.Function):
    """Autograd's own form makes a copy of 128 taps for every scale, forward and backward."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> Tensor:
        ctx.sizes = [weight.shape[2] for weight in weights]
        longest = max(ctx.sizes)
        outputs, inputs = weights[0].shape[:2]
        kernel = weights[0].new_zeros(outputs, inputs, longest)
        for weight in weights:
            kernel[..., longest - weight.shape[2] :] += weight
        return kernel.div_(len(weights))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        shared = gradient / len(ctx.sizes)
        longest = shared.shape[2]
        return tuple(shared[..., longest - size :].clone() for size in ctx.sizes)


def collapse(weights: Sequence[Tensor]) -> Tensor:
    """One kernel that does what the mean of causal convolutions does; differentiable once.

    Args:
        weights: In the layout of ``conv1d``, the last tap is the present; shapes ``(D_out, D_in, k)``.

    Returns:
        Shape ``(D_out, D_in, k)`` of the longest.

    Example:
        >>> collapse([torch.tensor([[[1.0]]]), torch.tensor([[[2.0, 3.0]]])]).tolist()
        [[[1.0, 2.0]]]
    """
    collapsed: Tensor = _Collapse.apply(*weights)  # type: ignore[no-untyped-call]
    return collapsed


def convolution(u: Tensor, kernel: Tensor) -> Tensor:
    """Convolution without padding: every step that has all its past.

    Args:
        u: Shape ``(B, k - 1 + T, D_in)``.
        kernel: Shape ``(D_out, D_in, k)``.

    Returns:
        Shape ``(B, T, D_out)``.

    Example:
        >>> u = torch.tensor([[[1.0], [10.0], [100.0]]])
        >>> convolution(u, torch.tensor([[[2.0, 1.0]]])).flatten().tolist()
        [12.0, 120.0]
    """
    return F.conv1d(u.mT, kernel).mT
