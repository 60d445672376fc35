r"""Every pair a yes-or-no question of its own (SigLIP, Zhai et al., ICCV 2023, algorithm 1).

.. math:: \ell = -\frac{1}{N} \sum_{i,j} \log \sigma\left( y_{ij} (t \langle q_i, k_j \rangle + b) \right),
          \qquad y_{ij} = \begin{cases} 1 & i = j \\ -1 & i \neq j \end{cases}

with unit rows. No term needs another one, so the sum is made tile by tile, exactly, and the gradient computes
the tiles anew: memory O(N tile) instead of O(N^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.checks import check_choice, check_counts
from nearfar.objectives.gemm import fast_gemm
from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views

Backend = Literal["auto", "dense", "tiled"]


def siglip_loss(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 10.0,
    bias: float | Tensor = -10.0,
    *,
    backend: Backend = "auto",
    tile: int = 768,
) -> Tensor:
    """Binary cross-entropy over all pairs, summed over keys and averaged over rows.

    Args:
        q: First view, shape ``(N, d)``; the rows are normalised here.
        k: Second view, same shape as ``q``; row i belongs to row i of ``q``.
        scale: The factor t of the cosines (an inverse temperature), a positive number or scalar tensor.
        bias: The offset b, a number or scalar tensor.
        backend: ``"dense"`` holds N x N logits and has every derivative; ``"tiled"`` holds one tile and has
            the first derivative; ``"auto"`` is dense while all pairs fit into one tile.
        tile: Edge of the square tiles.

    Returns:
        Scalar; gradients reach ``q``, ``k`` and tensors given as ``scale`` or ``bias``. Half precision and
        autocast are computed in float32.

    Raises:
        ValueError: If a shape, dtype, number or the backend makes no sense.

    Example:
        >>> x = torch.eye(2)
        >>> round(siglip_loss(x, x, scale=1.0, bias=0.0).item(), 4)  # log(1 + e^-1) + log(1 + e^0)
        1.0064
    """
    check_views(q=q, k=k)
    _check_options(backend, tile)
    _check_scalar("scale", scale, "a positive number", lambda value: 0 < value < math.inf)
    _check_scalar("bias", bias, "a finite number", math.isfinite)
    with torch.autocast(q.device.type, enabled=False):
        q, k = (smooth_normalize(at_least_float32(x)) for x in (q, k))
        t, b = (torch.as_tensor(x, dtype=q.dtype, device=q.device).reshape(()) for x in (scale, bias))
        if backend == "dense" or (backend == "auto" and len(q) <= tile):
            sign = 2 * torch.eye(len(q), dtype=q.dtype, device=q.device) - 1
            total = -F.logsigmoid(sign * (t * (q @ k.mT) + b)).sum()
        else:
            total = _TiledSum.apply(q, k, t, b, tile)  # type: ignore[no-untyped-call]
        return total / len(q)


def _check_options(backend: str, tile: int) -> None:
    check_choice("backend", backend, ("auto", "dense", "tiled"))
    check_counts(tile=tile)


def _check_scalar(name: str, value: float | Tensor, expected: str, accepts: Callable[[float], bool]) -> None:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{name}: one value expected, got shape {tuple(value.shape)}")
    elif not accepts(value):
        raise ValueError(f"{name}: {expected} expected, got {value}")


def _tiles(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, tile: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, keys and -y s of every tile; the sign of the positives is what a term needs to be accurate."""
    for i in range(0, len(q), tile):
        scaled = q[i : i + tile] * scale
        for j in range(0, len(k), tile):
            logits = torch.addmm(bias, scaled, k[j : j + tile].mT)
            if i == j:
                logits.diagonal().neg_()
            yield slice(i, i + tile), slice(j, j + tile), logits


@contextmanager
def _float32_products(like: Tensor, tile: int) -> Iterator[None]:
    # Once more for the gradient: backward() may be called under autocast.
    with torch.autocast(like.device.type, enabled=False), fast_gemm(like, tile):
        yield


class _TiledSum(torch.autograd.Function):
    """Sum of softplus(-y s) over all pairs."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, tile: int) -> Tensor:
        ctx.save_for_backward(q, k, scale, bias)
        ctx.tile = tile
        row_sums = q.new_zeros(len(q))
        with _float32_products(q, tile):
            for rows, _, logits in _tiles(q, k, scale, bias, tile):
                # Above the threshold softplus is the identity; the default of 20 is too low for float64.
                row_sums[rows] += F.softplus(logits, threshold=40).sum(1)
        return row_sums.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        options = ctx.tile, ctx.needs_input_grad[1]
        return *_TiledGradient.apply(grad, *ctx.saved_tensors, *options), None  # type: ignore[no-untyped-call]


class _TiledGradient(torch.autograd.Function):
    """Gradients of :class:`_TiledSum`; a function of its own, so that a second derivative is refused."""

    @staticmethod
    def forward(
        _ctx: Any, grad: Tensor, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, tile: int, for_keys: bool
    ) -> tuple[Tensor | None, ...]:
        to_q, to_k, row_sums = torch.zeros_like(q), torch.zeros_like(k), q.new_zeros(len(q))
        with _float32_products(q, tile):
            for rows, keys, logits in _tiles(q, k, scale, bias, tile):
                weight = logits.sigmoid_()
                if rows == keys:
                    weight.diagonal().neg_()
                row_sums[rows] += weight.sum(1)
                to_q[rows].addmm_(weight, k[keys])
                if for_keys:
                    to_k[keys].addmm_(weight.mT, q[rows])
        # <q_i, sum_j w_ij k_j> sums what the cosines of row i contribute to the derivative by t.
        to_scale = grad * (q * to_q).sum()
        factor = grad * scale
        return to_q.mul_(factor), to_k.mul_(factor) if for_keys else None, to_scale, grad * row_sums.sum()

    @staticmethod
    def backward(_ctx: Any, *_grads: Tensor) -> None:
        raise RuntimeError('backend="tiled" has no second derivative; use backend="dense"')


class SigLIP(Objective):
    """:func:`siglip_loss` with learnable scale t = exp(t') and bias.

    Args:
        init_log_scale: First value of t'; the paper's is log 10.
        init_bias: First value of b, low because almost all pairs are negative.
        backend: As for :func:`siglip_loss`.
        tile: Edge of the square tiles.

    Example:
        >>> loss = SigLIP()
        >>> [name for name, _ in loss.named_parameters()]
        ['log_scale', 'bias']
        >>> round(loss(torch.eye(2), torch.eye(2)).item(), 4)  # log(1 + e^0) + log(1 + e^-10)
        0.6932
    """

    def __init__(
        self,
        init_log_scale: float = math.log(10),
        init_bias: float = -10.0,
        *,
        backend: Backend = "auto",
        tile: int = 768,
    ) -> None:
        _check_options(backend, tile)
        _check_scalar("init_log_scale", init_log_scale, "a finite number", math.isfinite)
        _check_scalar("init_bias", init_bias, "a finite number", math.isfinite)
        super().__init__(init_log_scale=init_log_scale, init_bias=init_bias, backend=backend, tile=tile)
        self.log_scale = nn.Parameter(torch.tensor(float(init_log_scale)))
        self.bias = nn.Parameter(torch.tensor(float(init_bias)))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """As :func:`siglip_loss`, shapes ``(N, d)``."""
        backend, tile = self.config["backend"], self.config["tile"]
        return siglip_loss(q, k, self.log_scale.exp(), self.bias, backend=backend, tile=tile)
