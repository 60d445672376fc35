"""One process of test_ranks: every case on this process's part of the batch; results go to a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.objectives import denominator as rules
from nearfar.objectives.positives import Soft

# Samples of every process: uneven last batches; two, three and four processes share a half ring differently.
SPREADS = {"two": [7, 4], "three": [3, 5, 2], "four": [2, 3, 1, 4]}
DIM = 5


@dataclass(frozen=True)
class Case:
    """A call of contrast on rows of two views (``a``, ``b``), with ids of the samples."""

    stacked: bool
    arguments: Any  # of (ids), each process's or those of the whole batch


CASES = {
    "NT-Xent": Case(True, lambda ids: {"positives": ("paired", len(ids))}),
    "NT-Xent dense": Case(True, lambda ids: {"positives": ("paired", len(ids)), "backend": "dense"}),
    "NT-Xent sharp dot": Case(
        True, lambda ids: {"positives": ("paired", len(ids)), "similarity": "dot", "temperature": 0.05}
    ),
    "DCL": Case(True, lambda ids: {"positives": ("paired", len(ids)), "include_positive": False}),
    "SupCon": Case(True, lambda ids: {"positives": ids.repeat(2)}),
    "SupCon, false negatives out": Case(
        True, lambda ids: {"positives": ("paired", len(ids)), "denominator": own(rules.NotSame(ids.repeat(2)))}
    ),
    "stages": Case(
        True, lambda ids: {"positives": ("paired", len(ids)), "denominator": own(rules.OnlySame(ids.repeat(2)))}
    ),
    "band": Case(False, lambda ids: {"denominator": rules.NotBand(3)}),
    "distance": Case(True, lambda ids: {"positives": ("paired", len(ids)), "similarity": "neg_sqdist"}),
    "one direction": Case(False, lambda ids: {}),
    "symmetric": Case(False, lambda ids: {"symmetric": True}),
    "symmetric dense": Case(False, lambda ids: {"symmetric": True, "backend": "dense"}),
    "symmetric labels": Case(False, lambda ids: {"symmetric": True, "positives": ids}),
    "symmetric, ids": Case(False, lambda ids: {"symmetric": True, "denominator": rules.NotSame(ids)}),
    "callable": Case(False, lambda ids: {"denominator": rules.Callable(lambda i, j: (i + j) % 3 > 0)}),
    "weights": Case(False, lambda ids: {"row_weight": ids + 1.0, "key_log_weight": ids / 3.0}),
    "sum": Case(False, lambda ids: {"reduction": "sum"}),
    "soft": Case(False, lambda ids: {"positives": Soft(0.5, 0.1, features(ids), features(ids))}),
    "bounds": Case(False, lambda ids: {"denominator": rules.Nothing(), "positives": ids}),
}  # fmt: skip


def own(rule: rules.Rule) -> rules.Rule:
    return rules.NotSelf() & rule


def features(ids: Tensor) -> Tensor:
    return torch.stack([ids, ids + 1, ids % 2], -1).float()


def batch(total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two views and ids of the whole batch."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(total, DIM, generator=rng) for _ in range(2))
    return a, b, torch.randint(4, (total,), generator=rng)


def part(x: Tensor, sizes: list[int], rank: int) -> Tensor:
    first = sum(sizes[:rank])
    return x[first : first + sizes[rank]]


def evaluate(case: Case, a: Tensor, b: Tensor, ids: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of a shared weight and temperature."""
    weight = torch.eye(DIM).requires_grad_()
    log_temperature = torch.tensor(-1.0, requires_grad=True)
    a, b = a @ weight, b @ weight
    arguments = {"temperature": log_temperature.exp(), **case.arguments(ids), **more}
    loss = contrast(torch.cat([a, b]), **arguments) if case.stacked else contrast(a, b, **arguments)
    loss.backward()
    assert weight.grad is not None
    temperature_grad = torch.zeros(()) if log_temperature.grad is None else log_temperature.grad
    return loss.detach(), torch.cat([weight.grad.flatten(), temperature_grad.flatten()])


def main(spread: str, rank: int, folder: Path) -> None:
    sizes = SPREADS[spread]
    import nearfar.objectives.tiles as tiles

    tiles.CPU_EDGE = 3
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=len(sizes))
    a, b, ids = (part(x, sizes, rank) for x in batch(sum(sizes)))
    results = {}
    for name, case in CASES.items():
        loss, gradient = evaluate(case, a, b, ids, group=dist.group.WORLD)
        dist.all_reduce(gradient)  # as DistributedDataParallel: the mean
        results[name] = loss, gradient / len(sizes)
    refusals = {}
    # One row has no next: that process would refuse before it has spoken to the others.
    refused: dict[str, dict[str, Any]] = {
        "next": {"positives": ("next", 1)},
        "mask": {"denominator": rules.Mask(torch.ones(len(a), len(a), dtype=torch.bool))},
        "matrix": {"positives": torch.ones(len(a), len(a))},
    }
    for name, arguments in refused.items() if min(sizes) > 1 else ():
        try:
            contrast(a, b, group=dist.group.WORLD, **arguments)
        except ValueError as error:
            refusals[name] = str(error)
    torch.save((results, refusals), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
