"""Memory of one contrastive step over a large batch: plain ``backward()`` against ``chunked_backward``.

A Transformer encodes two views of every sequence, and symmetric InfoNCE compares them. Each side runs in its own
process, where the growth of resident memory during the step is read; losses and gradients must agree.

    python benchmarks/chunked_backward.py [--rows 1024] [--chunk 64]
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.runtime import generator
from nearfar.training.chunked import chunked_backward

if TYPE_CHECKING:
    from benchmarks.measure import cost, in_fresh_process
else:
    from measure import cost, in_fresh_process  # this folder is first on the path of a script

LENGTH, WIDTH, LAYERS = 32, 64, 2


class Encoder(nn.Module):
    """Mean of the states of a Transformer over a sequence ``(N, length, width)``."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """One representation a sequence, ``(N, width)``."""
        states: Tensor = self.layers(x)
        return states.mean(1)


def infonce(a: Tensor, b: Tensor) -> Tensor:
    """Symmetric InfoNCE of views ``(N, width)``."""
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).mT / 0.1
    targets = torch.arange(len(a))
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.mT, targets)) / 2


def measured(side: str, rows: int, chunk: int) -> dict[str, Any]:
    """Cost, loss and gradient norm of one side; meant for a process of its own."""
    torch.manual_seed(0)
    encoder = Encoder()
    rng = generator(0, "views")
    views = [torch.randn(rows, LENGTH, WIDTH, generator=rng) for _ in range(2)]
    loss = torch.zeros(())

    def step(num_rows: int = rows) -> None:
        nonlocal loss
        encoder.zero_grad()
        given = [view[:num_rows] for view in views]
        if side == "plain":
            value = infonce(encoder(given[0]), encoder(given[1]))
            value.backward()
            loss = value.detach()
        else:
            loss = chunked_backward(encoder, [*given], infonce, chunk)

    step(8)  # code and workspaces
    found = cost(step, "cpu", most=2)
    norm = nn.utils.get_total_norm([p.grad for p in encoder.parameters() if p.grad is not None])
    return {
        "seconds": found.seconds,
        "megabytes": found.megabytes,
        "memory_by": found.memory_by,
        "loss": loss.item(),
        "norm": norm.item(),
    }


def main() -> None:
    """Measure both sides in processes of their own and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1024, help="sequences in a view")
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--side", choices=["plain", "chunked"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        torch.set_num_threads(1)
        print(json.dumps(measured(arguments.side, arguments.rows, arguments.chunk)))
        return

    options = ["--rows", str(arguments.rows), "--chunk", str(arguments.chunk)]
    sides = {
        side: in_fresh_process([__file__, *options, "--side", side], {}) for side in ("plain", "chunked")
    }
    plain, chunked = sides["plain"], sides["chunked"]
    for value in ("loss", "norm"):
        if abs(plain[value] - chunked[value]) > 1e-4 * abs(plain[value]):
            raise SystemExit(f"{value} differs: {plain[value]} plain, {chunked[value]} chunked")
    print(
        f"{arguments.rows} pairs of sequences, chunks of {arguments.chunk}, one thread; peak growth by "
        f"{plain['memory_by']}, process CPU seconds, loss {plain['loss']:.5f} on both sides"
    )
    for side, found in sides.items():
        print(f"  {side:8s} {found['megabytes']:8,.0f} MB {found['seconds']:7.2f} s")
    less, longer = plain["megabytes"] / chunked["megabytes"], chunked["seconds"] / plain["seconds"]
    print(f"  {less:.1f}x less memory for {longer:.2f}x the time")


if __name__ == "__main__":
    main()
