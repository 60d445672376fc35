"""Bounds on a GPU are those of the CPU, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nearfar.graph import AugmentationBudget, NodeCompactness
from nearfar.graph.encoder import GCNEncoder
from nearfar.graph.surroundings import Mode

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def bounds(mode: Mode, device: str, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Compactness of a random graph of 300 nodes and its gradients to the encoder, in float64 on the CPU."""
    rng = torch.Generator().manual_seed(0)
    pairs = torch.randint(300, (2, 900), generator=rng)
    low, high = pairs.amin(0), pairs.amax(0)
    key = (low * 300 + high)[low != high].unique()
    edges = torch.stack([torch.cat([key // 300, key % 300]), torch.cat([key % 300, key // 300])])
    x, z = torch.randn(300, 12, generator=rng), torch.randn(300, 8, generator=rng)
    encoder = GCNEncoder(12, 8, activation="prelu", generator=rng).to(device, dtype)
    compactness = NodeCompactness(encoder, AugmentationBudget(p=0.4), mode=mode)
    found = compactness(x.to(device, dtype), edges.to(device), z_other=z.to(device, dtype))
    torch.nn.functional.softplus(-found).mean().backward()
    gradients = [p.grad.double().cpu() for p in encoder.parameters() if p.grad is not None]
    return found.detach().double().cpu(), gradients


@pytest.mark.parametrize("mode", ["certified", "ibp", "surrogate", "relaxed_at", "sampled"])
def test_a_gpu_agrees_with_float64_on_the_cpu(mode: Mode) -> None:
    there, to_there = bounds(mode, "cuda", torch.float32)
    here, to_here = bounds(mode, "cpu", torch.float64)
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)
    assert len(to_there) == len(to_here) > 0
    for a, b in zip(to_there, to_here, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()
