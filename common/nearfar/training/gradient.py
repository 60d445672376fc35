"""Changing a gradient on its way back without changing the value, or the value without the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` itself; its gradient is multiplied by ``factor``.

    Lets one evaluation of a loss serve two parts of a model with different weights. A negative factor is gradient
    reversal (Ganin and Lempitsky, ICML 2015).

    Args:
        x: Any shape, ``(..., d)``.
        factor: Any number.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> scale_gradient(x, 0.5).sum().backward()
        >>> x.grad
        tensor([0.5000, 0.5000])
    """
    scaled: Tensor = _ScaleGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


def scale_value(x: Tensor, factor: float) -> Tensor:
    """``factor`` times ``x``, with the gradient of ``x``: what is logged and what is descended differ by a weight.

    Args:
        x: Any shape, ``(..., d)``.
        factor: Any number.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> y = scale_value(x, 0.5)
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([0.5, 0.5], [1.0, 1.0])
    """
    return x - (1 - factor) * x.detach()


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None
