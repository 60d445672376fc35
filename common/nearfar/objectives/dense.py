"""Reference backend: the whole logit matrix in memory, plain autograd, every derivative exact."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_normalize(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Rows scaled to unit length; a zero row stays zero and its gradient stays bounded.

    Args:
        x: Shape ``(..., d)``.
        eps: Added to the squared length; at 1e-12 a unit row is changed by half of that.
    """
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)


def dense_contrast(
    q: Tensor,
    k: Tensor | None,
    *,
    offset: int | None,
    temperature: float | Tensor,
    cosine: bool,
    symmetric: bool,
) -> Tensor:
    """Loss of every row, shape ``(..., N)``; arguments as checked by ``contrast``."""
    if q.dtype in (torch.float16, torch.bfloat16):
        q, k = q.float(), None if k is None else k.float()
    if cosine:
        q, k = smooth_normalize(q), None if k is None else smooth_normalize(k)
    logits = q @ (q if k is None else k).mT / temperature
    num_rows = q.shape[-2]
    rows = torch.arange(num_rows, device=q.device)
    partner = rows if offset is None else (rows + offset) % num_rows
    positive = logits[..., rows, partner]
    if k is None:
        logits = logits.masked_fill(torch.eye(num_rows, dtype=torch.bool, device=q.device), -torch.inf)
    loss = logits.logsumexp(-1) - positive
    if symmetric:
        loss = (loss + logits.logsumexp(-2) - positive) / 2
    return loss
