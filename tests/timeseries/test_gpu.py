"""Encoders and losses on a GPU are those of the CPU, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.objectives.mmd import divergence
from nearfar.runtime import initial_weights
from nearfar.timeseries import SeriesEncoder
from nearfar.timeseries.autotcl.hierarchical_contrast import hierarchical_contrast
from nearfar.timeseries.encoder.pooling import max_pool

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def gradients(head: str, device: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Representations and gradients of the divergence of two halves, in float64 on the CPU."""
    with initial_weights(0):
        encoder = SeriesEncoder(3, dim=16, hidden=8, depth=4, head=head, dropout=0.0)  # type: ignore[arg-type]
    encoder = encoder.to(device, dtype)
    x = torch.randn(8, 70, 3, generator=torch.Generator().manual_seed(0))
    x[0, 5], x[1, 60:] = torch.nan, torch.nan
    x = x.to(device, dtype)
    z = max_pool(encoder(x), ~x.isnan().any(2))
    divergence(z[:4], z[4:]).backward()
    return z.detach().double().cpu(), [
        p.grad.double().cpu() for p in encoder.parameters() if p.grad is not None
    ]


@pytest.mark.parametrize("head", ["none", "trend", "light"])
def test_a_gpu_agrees_with_float64_on_the_cpu(head: str) -> None:
    there, to_there = gradients(head, "cuda", torch.float32)
    here, to_here = gradients(head, "cpu", torch.float64)
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)
    assert len(to_there) == len(to_here) > 0
    for a, b in zip(to_there, to_here, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-4)


def test_the_contrast_of_every_step_agrees_as_well() -> None:
    first, second = torch.randn(2, 6, 50, 16, generator=torch.Generator().manual_seed(0)).double()
    valid = torch.rand(6, 50, generator=torch.Generator().manual_seed(1)) > 0.2
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        z = first.to(device, dtype).detach().requires_grad_()
        loss = hierarchical_contrast(z, second.to(device, dtype), valid.to(device))
        loss.backward()
        assert z.grad is not None
        found.append((loss.detach().double().cpu(), z.grad.double().cpu()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)
