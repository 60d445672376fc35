"""InfoNCE forward and backward: nearfar next to eager PyTorch, GRACE's form, lightly and PML.

Every figure comes from a fresh process on one thread: CPU seconds (best of several) and peak memory above
the inputs. Losses and gradient norms of all sides are compared before anything is printed. The roof is the
least arithmetic with memory linear in N, at the rate this host multiplies matrices: 16 N^2 d
floating-point operations for NT-Xent with N pairs, 8 N^2 d for N x N cross-view contrast.

    python benchmarks/infonce.py [--quick | --sizes 1024 4096] [--markdown] [--track] [--device cuda]
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.optional import installed

if TYPE_CHECKING:
    from benchmarks import measure
else:
    import measure  # this folder is first on the path of a script

Loss = Callable[[Tensor, Tensor], Tensor]
TEMPERATURE, WIDTH = 0.1, 128
SIZES = {"cpu": [2**k for k in range(8, 16)], "cuda": [2**k for k in range(8, 19)]}
QUICK = 1024
SUMMARY = 4096
LARGEST = 32768
AGREEMENT = 1e-4
MEMORY_SHARE = 0.7  # of what is free, the most that a variant may be expected to take


def eager_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """Cross-entropy over the masked 2N x 2N similarity matrix of views ``(N, d)``."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = z @ (z / TEMPERATURE).T
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(a)))


def exp_sum_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """Ratio of sums of exponentials over four N x N blocks of views ``(N, d)``, as in GRACE."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)

    def one_view(x: Tensor, y: Tensor) -> Tensor:
        within, between = torch.exp(x @ x.T / TEMPERATURE), torch.exp(x @ y.T / TEMPERATURE)
        everything = within.sum(1) + between.sum(1) - within.diagonal()
        return -torch.log(between.diagonal() / everything)

    return (one_view(a, b) + one_view(b, a)).mean() / 2


def lightly_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """lightly's NTXentLoss of views ``(N, d)``."""
    loss: Tensor = _lightly()(a, b)
    return loss


@functools.cache
def _lightly() -> Any:
    # lightly imports torchvision, which its losses do not use, and which often does not fit the torch there is.
    importlib.import_module("nearfar.interop.tsai").enable_tsai_without_torchvision()
    return importlib.import_module("lightly.loss.ntx_ent_loss").NTXentLoss(temperature=TEMPERATURE)


def pml_supcon(a: Tensor, b: Tensor) -> Tensor:
    """pytorch-metric-learning's SupConLoss of views ``(N, d)``, with the pair as the label."""
    return _pml("SupConLoss", a, b)


def pml_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """pytorch-metric-learning's NTXentLoss of views ``(N, d)``: cubic in N."""
    return _pml("NTXentLoss", a, b)


def _pml(name: str, a: Tensor, b: Tensor) -> Tensor:
    build = getattr(importlib.import_module("pytorch_metric_learning.losses"), name)
    pairs = torch.arange(len(a), device=a.device).repeat(2)
    loss: Tensor = build(temperature=TEMPERATURE)(torch.cat([a, b]), pairs)
    return loss


def nearfar_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """``contrast`` of the stacked views ``(N, d)``."""
    return contrast(torch.cat([a, b]), positives=("paired", len(a)), temperature=TEMPERATURE)


def nearfar_tiled_nt_xent(a: Tensor, b: Tensor) -> Tensor:
    """The same in tiles at every N, views ``(N, d)``."""
    views = torch.cat([a, b])
    return contrast(views, positives=("paired", len(a)), temperature=TEMPERATURE, backend="tiled")


def eager_one_way(a: Tensor, b: Tensor) -> Tensor:
    """Cross-entropy over the N x N similarity matrix of views ``(N, d)``."""
    return F.cross_entropy(_cross_logits(a, b), torch.arange(len(a), device=a.device))


def eager_two_way(a: Tensor, b: Tensor) -> Tensor:
    """Cross-entropy over its rows and over its columns, views ``(N, d)``, as in CLIP."""
    logits, target = _cross_logits(a, b), torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _cross_logits(a: Tensor, b: Tensor) -> Tensor:
    return F.normalize(a, dim=1) @ (F.normalize(b, dim=1) / TEMPERATURE).T


def nearfar_one_way(a: Tensor, b: Tensor) -> Tensor:
    """``contrast`` of views ``(N, d)``."""
    return contrast(a, b, temperature=TEMPERATURE)


def nearfar_two_way(a: Tensor, b: Tensor) -> Tensor:
    """``contrast`` of views ``(N, d)`` in both directions."""
    return contrast(a, b, symmetric=True, temperature=TEMPERATURE)


@dataclass(frozen=True)
class Variant:
    """One way to compute a loss.

    Attributes:
        title: Heading of its column.
        loss: Scalar of two views, shapes ``(N, d)``.
        value: Variants of one table with the same word compute the same number.
        package: What it needs beside torch.
        power: Peak memory grows with this power of N.
        most: Largest N to run it at on a CPU; above, what it would need is scaled up.
        plain: Leave torch's choice of matrix product alone.
    """

    title: str
    loss: Loss
    value: str = "loss"
    package: str | None = None
    power: int = 2
    most: int = LARGEST // 2
    plain: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is measured against the roof, and not bounded by memory."""
        return self.power == 1


@dataclass(frozen=True)
class Table:
    """Variants side by side.

    Attributes:
        title: Heading.
        variants: Columns, by key; the keys "eager" and "nearfar" have a meaning.
        flops: Floating-point operations of the roof, in units of N^2 d.
        sizes: Smallest and largest N.
    """

    title: str
    variants: dict[str, Variant]
    flops: int
    sizes: tuple[int, float]


PML = "pytorch_metric_learning"
TABLES = {
    "nt_xent": Table(
        "NT-Xent of N pairs (2N x 2N)",
        {
            "eager": Variant("eager torch", eager_nt_xent),
            "grace": Variant("GRACE exp/sum", exp_sum_nt_xent),
            "lightly": Variant("lightly NTXentLoss", lightly_nt_xent, package="lightly"),
            "pml_supcon": Variant("PML SupConLoss", pml_supcon, package=PML),
            "pml_nt_xent": Variant("PML NTXentLoss", pml_nt_xent, package=PML, power=3, most=256),
            "tiled": Variant("nearfar, plain GEMM", nearfar_tiled_nt_xent, power=1, plain=True),
            "nearfar": Variant("nearfar", nearfar_nt_xent, power=1),
        },
        16,
        (1, math.inf),
    ),
    "cross": Table(
        "Cross-view InfoNCE (N x N)",
        {
            "eager": Variant("eager, one direction", eager_one_way, "one"),
            "nearfar": Variant("nearfar, one direction", nearfar_one_way, "one", power=1),
            "eager_both": Variant("eager, symmetric", eager_two_way, "two"),
            "nearfar_both": Variant("nearfar, symmetric", nearfar_two_way, "two", power=1),
        },
        8,
        (1024, 8192),
    ),
}


@dataclass(frozen=True)
class Result:
    """Figures of one variant at one size, and what it computed."""

    cost: measure.Cost
    loss: float
    gradient_norm: float


Cell: TypeAlias = Result | str
Cells: TypeAlias = dict[tuple[str, int], Cell]


def child(job: Sequence[str], device: str) -> dict[str, Any]:
    """In a process of its own: the host's figures, or those of one variant at one size."""
    torch.set_num_threads(1)
    if job[0] == "rates":
        return dict(measure.product_rates(device))
    table, key, size = job
    return asdict(one_result(TABLES[table].variants[key], int(size), device))


def one_result(variant: Variant, size: int, device: str) -> Result:
    """Measure a variant on the inputs of the known answers; small ones first, so that code is loaded."""

    def views(num_rows: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(0)
        made = [torch.randn(num_rows, WIDTH, generator=rng) for _ in range(2)]
        return made[0].to(device).requires_grad_(), made[1].to(device).requires_grad_()

    small = views(min(size, 64 if variant.power > 2 else 600))
    for _ in range(2):
        variant.loss(*small).backward()
    del small
    inputs = views(size)
    value = torch.zeros(())

    def step() -> None:
        nonlocal value
        for x in inputs:
            x.grad = None
        value = variant.loss(*inputs)
        value.backward()
        value = value.detach()

    spent = measure.cost(step, device)
    gradient = torch.cat([x.grad for x in inputs if x.grad is not None])
    return Result(spent, value.item(), gradient.double().norm().item())


class Bench:
    """The parent: which figures are taken, and in which order.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        sizes: Values of N, ascending.
    """

    def __init__(self, device: str, sizes: Sequence[int]) -> None:
        self.device, self.sizes = device, sizes
        self.rates: dict[str, float] = self._child(["--child", "rates"])

    def measure_table(self, name: str) -> Cells:
        """Every cell of a table; a text where there is no figure, saying why."""
        table, cells = TABLES[name], Cells()
        low, high = table.sizes
        for size in self.sizes:
            for key, variant in table.variants.items():
                if low <= size <= (high if self.device == "cpu" else math.inf):
                    cells[key, size] = cell = self._cell(name, key, variant, size, cells)
                    shown = cell if isinstance(cell, str) else shown_cost(cell.cost)
                    print(f"{name} {key} N={size}: {shown}", file=sys.stderr, flush=True)
            check_agreement(table, cells, size)
        return cells

    def _cell(self, name: str, key: str, variant: Variant, size: int, cells: Cells) -> Cell:
        if variant.package and not installed(variant.package):
            return "not installed"
        if not variant.ours and size > min(variant.most, QUICK):
            expected = self._expected(name, key, variant, size, cells)
            if isinstance(expected, str):
                return expected
            limited = size > variant.most and self.device == "cpu"
            if limited or expected > MEMORY_SHARE * measure.free_bytes(self.device):
                return f"needs about {shown_bytes(expected)}"
        return self._result(name, key, variant, size)

    def _expected(self, name: str, key: str, variant: Variant, size: int, cells: Cells) -> float | str:
        """Bytes, by scaling the largest size measured so far; one is measured for it if there is none."""
        done = {n: c for (k, n), c in cells.items() if k == key and isinstance(c, Result)}
        if not done:
            anchor = min(QUICK, variant.most)
            measured = self._result(name, key, variant, anchor)
            if isinstance(measured, str):
                return measured
            done[anchor] = measured
        largest = max(done)
        return done[largest].cost.megabytes * 1e6 * (size / largest) ** variant.power

    def _result(self, name: str, key: str, variant: Variant, size: int) -> Cell:
        environment = {"NEARFAR_FAST_GEMM": "0"} if variant.plain else {}
        try:
            found = self._child(["--child", name, key, str(size)], environment)
        except measure.ChildFailedError as error:
            return f"failed: {error}"
        return Result(measure.Cost(**found.pop("cost")), **found)

    def _child(self, arguments: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
        command = [str(Path(__file__).resolve()), *arguments, "--device", self.device]
        return measure.in_fresh_process(command, environment or {})

    def roof(self, name: str, size: int) -> float:
        """Seconds that the least arithmetic of a table takes at this host's rate."""
        return TABLES[name].flops * size**2 * WIDTH / (max(self.rates.values()) * 1e9)


def check_agreement(table: Table, cells: Cells, size: int) -> None:
    """Refuse to go on when variants that should compute the same number do not.

    Args:
        table: Their table.
        cells: Its cells.
        size: N.

    Raises:
        SystemExit: Names the two that differ, and by how much.
    """
    first: dict[str, tuple[str, Result]] = {}
    for key, variant in table.variants.items():
        cell = cells.get((key, size))
        if not isinstance(cell, Result):
            continue
        other, expected = first.setdefault(variant.value, (variant.title, cell))
        for what in ("loss", "gradient_norm"):
            mine, theirs = getattr(cell, what), getattr(expected, what)
            if not math.isclose(mine, theirs, rel_tol=AGREEMENT):
                raise SystemExit(
                    f"N={size}: {what} is {mine:.7g} by {variant.title} and {theirs:.7g} by {other}"
                )


def shown_cost(cost: measure.Cost) -> str:
    """Time and memory in a few characters, with the elapsed time where it is another."""
    seconds = f"{cost.seconds:.3g} s" if cost.seconds < 100 else f"{cost.seconds:.0f} s"
    wall = f" ({cost.wall:.3g} s wall)" if abs(cost.wall - cost.seconds) > 0.15 * cost.seconds else ""
    return f"{seconds}{wall}, {cost.megabytes:,.0f} MB"


def shown_bytes(count: float) -> str:
    """Gigabytes, or terabytes where there are thousands."""
    return f"{count / 1e9:,.{0 if count > 1e10 else 1}f} GB" if count < 1e12 else f"{count / 1e12:,.0f} TB"


def shown_table(bench: Bench, name: str, cells: Cells, markdown: bool) -> str:
    """One line a size, one column a variant, and the roof."""
    table = TABLES[name]
    rows = [["N", *(variant.title for variant in table.variants.values()), "roof"]]
    for size in sorted({n for _, n in cells}):
        roof = bench.roof(name, size)
        row = [f"{size:,}"]
        for key, variant in table.variants.items():
            cell = cells[key, size]
            text = cell if isinstance(cell, str) else shown_cost(cell.cost)
            if isinstance(cell, Result) and variant.ours:
                text += f", {cell.cost.seconds / roof:.2f}x roof"
            row.append(text)
        rows.append([*row, f"{roof:.3g} s"])
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "|" + "--|" * len(rows[0]))
        return "\n".join([f"**{table.title}**", "", *lines])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([table.title, *lines])


def absent(cells: Cells) -> str | None:
    """How to get the peers that are not there."""
    gone = any(cell == "not installed" for cell in cells.values())
    return 'not installed: pip install "nearfar[bench]"' if gone else None


def summary(bench: Bench, cells: Cells) -> list[str]:
    """Every target of NT-Xent beside what was measured."""
    ours, largest = cells.get(("nearfar", SUMMARY)), cells.get(("nearfar", LARGEST))
    lines = []

    def line(what: str, value: float | None, limit: float, unit: str, at_least: bool = False) -> None:
        if value is None:
            lines.append(f"{what}: not measured (target {'>=' if at_least else '<='} {limit:g}{unit})")
            return
        met = value >= limit if at_least else value <= limit
        sign = ">=" if at_least else "<="
        lines.append(
            f"{what}: {value:.3g}{unit} (target {sign} {limit:g}{unit}) {'met' if met else 'missed'}"
        )

    for key, faster, less in (("lightly", 8, 20), ("eager", 4, 15)):
        peer = cells.get((key, SUMMARY))
        both = (peer.cost, ours.cost) if isinstance(peer, Result) and isinstance(ours, Result) else None
        title = TABLES["nt_xent"].variants[key].title
        times = both and both[0].seconds / both[1].seconds
        memory = both and both[0].megabytes / both[1].megabytes
        line(f"times faster than {title}, N={SUMMARY}", times, faster, "x", at_least=True)
        line(f"times less memory than {title}, N={SUMMARY}", memory, less, "x", at_least=True)
    share = ours.cost.seconds / bench.roof("nt_xent", SUMMARY) if isinstance(ours, Result) else None
    line(f"time over the roof, N={SUMMARY}", share, 1.8, "x")
    peak = largest.cost.megabytes if isinstance(largest, Result) else None
    line(f"peak memory, N={LARGEST}", peak, 300, " MB")
    return lines


def track(bench: Bench, tables: dict[str, Cells]) -> None:
    """Record the figures as a run, with N as the step."""
    from nearfar.tracking import open_store, start_run

    run = start_run(
        open_store(),
        experiment="nearfar/benchmarks/infonce",
        name=f"infonce-{bench.device}",
        params={"device": bench.device, "width": WIDTH, "temperature": TEMPERATURE},
        tags={"nearfar.kind": "benchmark"},
        outbox=Path("outputs") / "infonce.outbox.jsonl",
        warn=lambda text: print(text, file=sys.stderr),
    )
    run.log({f"gemm/{route}_gflops": rate for route, rate in bench.rates.items()}, 0)
    for name, cells in tables.items():
        for (key, size), cell in cells.items():
            if isinstance(cell, Result):
                of_roof = bench.roof(name, size) / cell.cost.seconds
                figures = {
                    "seconds": cell.cost.seconds,
                    "megabytes": cell.cost.megabytes,
                    "share_of_roof": of_roof,
                }
                run.log({f"{name}/{key}/{figure}": value for figure, value in figures.items()}, size)
    run.finish("FINISHED")


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of pairs")
    sizes.add_argument("--quick", action="store_true", help=f"up to {QUICK} pairs")
    parser.add_argument("--markdown", action="store_true", help="tables for the README")
    parser.add_argument("--track", action="store_true", help="record the figures in MLflow")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sizes and min(given.sizes) < 2:
        parser.error(f"--sizes: at least 2 pairs expected, got {min(given.sizes)}")
    if given.child:
        print(json.dumps(child(given.child, given.device)))
        return
    chosen = [n for n in SIZES[given.device] if n <= QUICK] if given.quick else SIZES[given.device]
    bench = Bench(given.device, sorted(set(given.sizes or chosen)))
    rates = ", ".join(f"{rate:,.0f} GFLOP/s {route}" for route, rate in bench.rates.items())
    print(f"float32 products of a tile: {rates}", file=sys.stderr)
    tables = {name: bench.measure_table(name) for name in TABLES}

    every = [cell for cells in tables.values() for cell in cells.values() if isinstance(cell, Result)]
    print(
        f"forward and backward, d={WIDTH}, temperature {TEMPERATURE}, {given.device}, torch {torch.__version__}"
    )
    print(
        f"float32 products of a tile: {rates}; peak memory by {', '.join({r.cost.memory_by for r in every})}"
    )
    for name, cells in tables.items():
        if cells:
            print(f"\n{shown_table(bench, name, cells, given.markdown)}")
    if text := absent(tables["nt_xent"]):
        print(text)
    print(f"\nall variants that ran agree within each table to {AGREEMENT:g} in loss and gradient norm")
    print("\n".join(summary(bench, tables["nt_xent"])))
    if given.track:
        track(bench, tables)
    if any(
        isinstance(cell, str) and cell.startswith("failed") for c in tables.values() for cell in c.values()
    ):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
