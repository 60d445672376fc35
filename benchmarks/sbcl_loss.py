"""The loss of SBCL forward and backward: one pass for both terms, two calls of contrast, and masks as in the formula.

Every figure comes from a fresh process on one thread: CPU seconds (best of several) and peak memory above the inputs.
Losses and gradient norms of all sides are compared before anything is printed. Labels are long-tailed, subclasses have
about four items of a batch; temperatures of the second term differ from class to class.

    python benchmarks/sbcl_loss.py [--sizes 512 2048]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.longtail.sbcl.loss import sbcl_loss
from nearfar.objectives import OtherGroups, contrast
from nearfar.objectives.denominator import NotSame

if TYPE_CHECKING:
    from benchmarks import measure
else:
    import measure  # this folder is first on the path of a script

SIZES = [512, 2048, 8192, 16384]
WIDTH, CLASSES, ITEMS_A_SUBCLASS = 128, 100, 4
TEMPERATURE, BETA = 0.1, 0.25
AGREEMENT = 1e-4
MASKS = 16  # matrices of float32 and booleans that the formula holds at a time, about
MEMORY_SHARE = 0.7


@dataclass(frozen=True)
class Batch:
    """Two stacked views.

    Attributes:
        z: Features, shape ``(N, d)``.
        labels: Shape ``(N,)``.
        subclasses: Shape ``(N,)``.
        items: Shape ``(N,)``.
        tau2: Temperature of every class, shape ``(C,)``.
    """

    z: Tensor
    labels: Tensor
    subclasses: Tensor
    items: Tensor
    tau2: Tensor

    @classmethod
    def draw(cls, num_rows: int) -> Batch:
        """A batch of half as many items; classes of sizes from 1 to 1/100 of the first.

        Args:
            num_rows: N.
        """
        rng, num_items = torch.Generator().manual_seed(0), num_rows // 2
        weights = 0.01 ** (torch.arange(CLASSES) / (CLASSES - 1))
        labels = torch.multinomial(weights, num_items, replacement=True, generator=rng)
        parts = (torch.bincount(labels, minlength=CLASSES) // ITEMS_A_SUBCLASS).clamp(min=1)
        draws = (torch.rand(num_items, generator=rng) * parts[labels]).long()
        subclasses = (parts.cumsum(0) - parts)[labels] + draws
        z = torch.randn(num_rows, WIDTH, generator=rng).requires_grad_()
        tau2 = TEMPERATURE * (1 + 2 * torch.rand(CLASSES, generator=rng))
        return cls(z, labels.repeat(2), subclasses.repeat(2), torch.arange(num_items).repeat(2), tau2)


def together(batch: Batch, backend: Any = "auto") -> Tensor:
    """``sbcl_loss``."""
    return sbcl_loss(
        batch.z,
        batch.labels,
        batch.subclasses,
        batch.items,
        temperature=TEMPERATURE,
        class_temperatures=batch.tau2,
        beta=BETA,
        backend=backend,
    )


def two_calls(batch: Batch) -> Tensor:
    """A call of ``contrast`` for each term."""
    first = contrast(batch.z, positives=batch.subclasses, temperature=TEMPERATURE)
    second = contrast(
        batch.z,
        positives=OtherGroups(batch.labels, batch.subclasses, batch.items),
        denominator=NotSame(batch.subclasses),
        temperature=batch.tau2[batch.labels],
    )
    return first + BETA * second


def masks(batch: Batch) -> Tensor:
    """The formula with a matrix for each set of rows."""
    z, tau2 = F.normalize(batch.z, dim=1), batch.tau2[batch.labels][:, None]

    def same(ids: Tensor) -> Tensor:
        return ids[:, None] == ids[None]

    others = ~torch.eye(len(z), dtype=torch.bool)
    own = same(batch.items) & others
    mates = same(batch.subclasses) & others & ~own
    elsewhere = same(batch.labels) & ~same(batch.subclasses)
    gram = z @ z.T

    def term(logits: Tensor, positives: Tensor, seen: Tensor) -> Tensor:
        log_share = logits - logits.masked_fill(~seen, -torch.inf).logsumexp(1, keepdim=True)
        return -((log_share * positives).sum(1) / positives.sum(1)).mean()

    first = term(gram / TEMPERATURE, (mates | own).float(), others)
    second = term(gram / tau2, (elsewhere | own).float(), others & ~mates)
    return first + BETA * second


@dataclass(frozen=True)
class Variant:
    """One side.

    Attributes:
        title: Heading.
        loss: Of a batch.
        matrices: N x N matrices of float32 it holds, about; 0 for tiles.
        most: Largest N it is measured at.
    """

    title: str
    loss: Callable[[Batch], Tensor]
    matrices: int = 0
    most: float = math.inf


VARIANTS = {
    "auto": Variant("together, auto", together),
    "tiled": Variant("together, tiled", lambda batch: together(batch, "tiled")),
    "dense": Variant("together, dense", lambda batch: together(batch, "dense"), MASKS, 8192),
    "two": Variant("two calls", two_calls, most=8192),
    "masks": Variant("masks", masks, MASKS, 8192),
}


@dataclass(frozen=True)
class Result:
    """Figures of one variant at one size, and what it computed."""

    cost: measure.Cost
    loss: float
    gradient_norm: float


def child(key: str, size: int) -> dict[str, Any]:
    """In a process of its own: the figures of one variant at one size; small batches first, so that code is loaded."""
    torch.set_num_threads(1)
    loss = VARIANTS[key].loss
    for _ in range(2):
        loss(Batch.draw(min(size, 600))).backward()
    batch = Batch.draw(size)
    value = torch.zeros(())

    def step() -> None:
        nonlocal value
        batch.z.grad = None
        value = loss(batch)
        value.backward()
        value = value.detach()

    spent = measure.cost(step, "cpu")
    assert batch.z.grad is not None
    return asdict(Result(spent, value.item(), batch.z.grad.double().norm().item()))


def measured(key: str, size: int) -> Result | str:
    """One cell; a text where there is no figure, saying why."""
    variant = VARIANTS[key]
    needed = 4 * variant.matrices * size**2
    if size > variant.most or needed > MEMORY_SHARE * measure.free_bytes("cpu"):
        return f"about {needed / 1e9:.0f} GB" if needed else "-"
    command = [str(Path(__file__).resolve()), "--child", key, str(size)]
    found = measure.in_fresh_process(command, {})
    return Result(measure.Cost(**found.pop("cost")), **found)


def check_agreement(size: int, row: dict[str, Result | str]) -> None:
    """Refuse to go on when variants do not compute the same.

    Args:
        size: N.
        row: Results by variant.

    Raises:
        SystemExit: Names what differs, and by how much.
    """
    results = {key: cell for key, cell in row.items() if isinstance(cell, Result)}
    expected = results["auto"]
    for key, result in results.items():
        for what in ("loss", "gradient_norm"):
            mine, theirs = getattr(result, what), getattr(expected, what)
            if not math.isclose(mine, theirs, rel_tol=AGREEMENT):
                raise SystemExit(f"N={size}: {what} is {mine:.7g} by {key} and {theirs:.7g} by auto")


def shown(row: dict[str, Result | str]) -> list[str]:
    """One line a variant: its figures, and how many times those of ``auto`` they are."""
    ours = row["auto"]
    assert isinstance(ours, Result)
    lines = []
    for key, cell in row.items():
        title = f"  {VARIANTS[key].title:16}"
        if isinstance(cell, str):
            lines.append(f"{title} {cell}")
            continue
        times = cell.cost.seconds / ours.cost.seconds, cell.cost.megabytes / max(ours.cost.megabytes, 1e-3)
        lines.append(
            f"{title} {cell.cost.seconds:8.4f} s  {cell.cost.megabytes:8.1f} MB   "
            f"{times[0]:6.2f}x time  {times[1]:6.1f}x memory"
        )
    return lines


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", default=SIZES, help="rows of two views")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child[0], int(given.child[1]))))
        return
    if min(given.sizes) < 4 or any(size % 2 for size in given.sizes):
        parser.error(f"--sizes: even numbers of at least 4 rows expected, got {given.sizes}")
    print(f"forward and backward, d={WIDTH}, one thread, torch {torch.__version__}")
    for size in given.sizes:
        row = {key: measured(key, size) for key in VARIANTS}
        check_agreement(size, row)
        print("\n".join([f"N={size}", *shown(row)]), flush=True)
    print(f"all variants that ran agree to {AGREEMENT:g} in loss and gradient norm")


if __name__ == "__main__":
    main()
