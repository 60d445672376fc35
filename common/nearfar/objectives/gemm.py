"""Matrix products of a tile through oneDNN, where that is as exact as the default and can be much faster.

Stock PyTorch sends float32 products on a CPU to MKL, which on some processors runs at less than half the
rate of oneDNN. ``torch.backends.mkldnn.matmul.fp32_precision = "bf16"`` *permits* oneDNN to round
operands to bfloat16 and thereby sends products to it; on a processor without bfloat16 matrix units it keeps
float32 arithmetic. Whether it does is not documented per processor, so :func:`fast_gemm` first multiplies
tiles of the size in question and compares with float64, and only then routes, and only inside its ``with``.

Set ``NEARFAR_FAST_GEMM=0`` to leave the routing alone.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Of the largest element. Sums of this length in float32 are at 3e-7 to 1e-6, depending on their order; operands
# rounded to TF32 would put them at 5e-4, to bfloat16 at 4e-3.
TOLERANCE = 2e-6
_lock = threading.Lock()
_users = 0
_setting_found = "none"


@contextmanager
def fast_gemm(like: Tensor, tile: int) -> Iterator[bool]:
    """Route float32 CPU products inside the block to oneDNN, if that was shown exact.

    The setting is the process's, so products of other threads are routed for the time as well; they have
    passed the same accuracy probe. The last block to end restores what the first one found.

    Args:
        like: An operand, shape ``(..., d)``: its dtype, device and d decide.
        tile: Edge of the tiles.

    Yields:
        Whether products are routed.
    """
    usable = (
        like.dtype == torch.float32
        and like.device.type == "cpu"
        and os.environ.get("NEARFAR_FAST_GEMM", "1") != "0"
        and tile >= 128
        and _probe(min(tile, 768), like.shape[-1])
    )
    if not usable:
        yield False
        return
    with _routed():
        yield True


@contextmanager
def _routed() -> Iterator[None]:
    global _users, _setting_found
    backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    with _lock:
        if _users == 0:
            _setting_found = backend.fp32_precision
            backend.fp32_precision = "bf16"
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                backend.fp32_precision = _setting_found


@functools.cache
def _probe(tile: int, width: int) -> bool:
    """Whether the three products of a tile are float32-exact through oneDNN.

    Speed is not asked for: an answer that depends on the load of the machine would make losses differ in their
    last bits from one run to the next. Where MKL is as fast, nothing is lost.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.backends.mkldnn, "matmul"):
        return False
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(1, tile, width, generator=rng) for _ in range(2))
    weights = torch.rand(1, tile, tile, generator=rng)
    products: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
        lambda left, right, _: torch.bmm(left, right.mT),
        lambda left, right, weights: torch.baddbmm(left, weights, right),
        lambda left, right, weights: torch.baddbmm(left, weights.mT, right),
    ]
    with torch.no_grad(), _routed():
        for product in products:
            exact = product(left.double(), right.double(), weights.double())
            error = (product(left, right, weights) - exact).abs().max() / exact.abs().max()
            if not error <= TOLERANCE:
                return False
    return True
