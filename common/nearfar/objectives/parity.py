"""Whether the fused kernels can be used here, and whether they are right here.

Compiled code depends on device, driver and compiler, so before it is used on a device for the first time it is compared
with plain PyTorch in float64, once for each width of rows and precision of products.
"""

from __future__ import annotations

import functools
import os
import warnings

import torch
from torch import Tensor

from nearfar.objectives.denominator import NotBand, NotSame, NotSelf, Rule
from nearfar.objectives.dense import dense_log_sum_exp
from nearfar.objectives.fused import fused_log_sum_exp, precision, unfit
from nearfar.objectives.tiles import Order
from nearfar.optional import installed, missing

NUM_ROWS, NUM_KEYS, LARGEST_LOGIT = 300, 290, 10.0
# Largest error of log-sum-exps and of gradients over the largest value; single TF32 products have 10 bits.
TOLERANCE = {"tf32": (1e-3, 1e-2)}
EXACT = (1e-5, 1e-4)


def obstacle(a: Tensor, rule: Rule) -> str | None:
    """Why the fused kernels cannot be used, or ``None``.

    Args:
        a: Left operand, shape ``(B, N, d)``.
        rule: Which keys count.
    """
    if os.environ.get("NEARFAR_TRITON", "1") == "0":
        return "NEARFAR_TRITON=0 switches it off"
    # With TRITON_INTERPRET=1 Triton runs kernels in Python, on the CPU.
    if not (a.is_cuda or os.environ.get("TRITON_INTERPRET", "0") == "1"):
        return f"it needs operands on a CUDA device, got {a.device}"
    if not installed("triton"):
        return str(missing("triton", "it"))
    return unfit(a, rule) or failure(a.device, a.shape[-1], precision(a.device))


@functools.cache
def failure(device: torch.device, width: int, precision: str) -> str | None:
    """What is wrong with the kernels on a device, or ``None``; warns when first asked.

    Args:
        device: Of the operands.
        width: Coordinates of their rows.
        precision: That of products by the current settings; decides what is tolerated.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            found = _errors(device, width)
        allowed = TOLERANCE.get(precision, EXACT)
        if all(error <= most for error, most in zip(found, allowed, strict=True)):
            return None
        problem = "relative errors of {:.1e} in the loss and {:.1e} in the gradient".format(*found)
    except Exception as error:  # whatever compiler or driver say, there is another backend
        problem = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
    warnings.warn(
        f"nearfar: the Triton kernels failed their check on {device} ({problem}), so backend='auto' uses 'tiled' "
        "there; NEARFAR_TRITON=0 switches them off without a check",
        RuntimeWarning,
        stacklevel=2,
    )
    return f"its check on {device} failed: {problem}"


def _errors(device: torch.device, width: int) -> tuple[float, float]:
    """Largest errors against float64, relative to the largest value."""
    rng = torch.Generator().manual_seed(0)
    x, y = (
        torch.nn.functional.normalize(torch.randn(1, size, width, generator=rng), dim=-1)
        .mul(LARGEST_LOGIT**0.5)
        .to(device)
        .requires_grad_()
        for size in (NUM_ROWS, NUM_KEYS)
    )
    ids = torch.arange(NUM_ROWS, device=device) % 7
    cases: list[tuple[Tensor | None, Rule]] = [
        (None, NotSelf()),
        (y, NotBand(2) & NotSame(ids, ids[:NUM_KEYS])),
    ]
    worst = [0.0, 0.0]
    for k, rule in cases:
        inputs = [x] if k is None else [x, k]
        wide = [z.detach().double().requires_grad_() for z in inputs]
        exact = dense_log_sum_exp(wide[0], wide[-1], rule, columns=k is not None, order=Order())
        found = fused_log_sum_exp(x, k, rule, columns=k is not None)
        for i, (ours, theirs) in enumerate(
            ((_flat(found), _flat(exact)), (_gradients(found, inputs), _gradients(exact, wide)))
        ):
            error = ((ours - theirs).abs().amax() / theirs.abs().amax()).item()
            worst[i] = error if not error <= worst[i] else worst[i]  # NaN is worst
    return worst[0], worst[1]


def _flat(sums: tuple[Tensor, Tensor | None]) -> Tensor:
    return torch.cat([lse.detach().flatten() for lse in sums if lse is not None])


def _gradients(sums: tuple[Tensor, Tensor | None], inputs: list[Tensor]) -> Tensor:
    total = torch.stack([lse.mean() for lse in sums if lse is not None]).sum()
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(total, inputs)])
