"""Softmax cross-entropy over a catalogue, forward and backward: all logits at once, in chunks, and over a sample.

Process CPU seconds on one thread and peak memory above the inputs, a fresh process per figure. The first two agree in
loss and gradients to 1e-5; the sample is another loss.

    python benchmarks/cross_entropy.py [--rows 1024] [--classes 1682 12101 100000] [--negatives 1024]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives.linear_cross_entropy import linear_cross_entropy
from nearfar.objectives.sampled_softmax import sampled_softmax

if TYPE_CHECKING:
    from benchmarks.measure import cost, in_fresh_process
else:
    from measure import cost, in_fresh_process  # first on the path of a script

DIM = 64
SIDES = ("all logits", "chunks", "sample")


def problem(rows: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """States, classes and targets."""
    rng = torch.Generator().manual_seed(0)
    states = torch.randn(rows, DIM, generator=rng).requires_grad_()
    weight = (0.3 * torch.randn(classes, DIM, generator=rng)).requires_grad_()
    return states, weight, torch.randint(classes, (rows,), generator=rng)


def step_of(side: str, rows: int, classes: int, negatives: int) -> Callable[[], list[Tensor]]:
    """Loss and both gradients of one side."""
    states, weight, targets = problem(rows, classes)
    sample = torch.randint(classes, (negatives,), generator=torch.Generator().manual_seed(1))

    def loss() -> Tensor:
        if side == "all logits":
            return F.cross_entropy(states @ weight.T, targets)
        if side == "chunks":
            return linear_cross_entropy(states, weight, targets)
        return sampled_softmax(states, weight, targets, sample)

    def step() -> list[Tensor]:
        value = loss()
        return [value.detach(), *torch.autograd.grad(value, (states, weight))]

    return step


def check(rows: int, classes: int, negatives: int) -> None:
    """The two exact sides agree."""
    one, two = (step_of(side, rows, classes, negatives)() for side in SIDES[:2])
    for a, b in zip(one, two, strict=True):
        error = ((a - b).norm() / b.norm()).item()
        if not error < 1e-5:
            raise SystemExit(f"the sides differ by {error:.1e}")


def main() -> None:
    """Measure all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--classes", type=int, nargs="+", default=[1682, 12_101, 100_000])
    parser.add_argument("--negatives", type=int, default=1024)
    parser.add_argument("--child", choices=SIDES, help="measure one side and print JSON")
    arguments = parser.parse_args()
    if arguments.child:
        (classes,) = arguments.classes
        torch.set_num_threads(1)
        step_of(arguments.child, 64, 200, 64)()  # code and libraries
        measured = cost(step_of(arguments.child, arguments.rows, classes, arguments.negatives), "cpu")
        print(json.dumps(asdict(measured)))
        return
    print(f"{arguments.rows:,} rows, d = {DIM}, sample of {arguments.negatives:,}")
    print("| classes | all logits | chunks | | sample |\n|--|--|--|--|--|")
    for classes in arguments.classes:
        check(arguments.rows, classes, arguments.negatives)
        found = []
        for side in SIDES:
            options = ["--rows", str(arguments.rows), "--negatives", str(arguments.negatives)]
            options += ["--classes", str(classes), "--child", side]
            found.append(in_fresh_process([__file__, *options], {}))
        cells = [f"{1e3 * one['seconds']:.0f} ms, {one['megabytes']:.0f} MB" for one in found]
        full, chunks, _ = found
        ratio = (
            f"{full['seconds'] / chunks['seconds']:.1f}x faster, "
            f"{full['megabytes'] / max(chunks['megabytes'], 1):.1f}x less memory"
        )
        print(f"| {classes:,} | {cells[0]} | {cells[1]} | {ratio} | {cells[2]} |")


if __name__ == "__main__":
    main()
