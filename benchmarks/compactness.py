"""Node compactness on edges against the published n x n form of the surrogate; a million nodes; a step on Cora.

Process CPU seconds on one thread and peak memory above the inputs, a fresh process per figure. Beside the first figure
of a cell: how many times less that is than the dense form's. That form is our own, as plain as the published program
(POT, Yu et al., NeurIPS 2023) in what grows: n x n bounds computed in float64 and held in float32, row sums as the
diagonal of an n x n product, features projected wherever they are needed, an (n, d0) product for every node's own
message. Products with single graphs are sparse in both, and the costly selection of listed nodes is left out. Scores
and gradients agree to 1e-4, or nothing is measured.

    python benchmarks/compactness.py [--quick] [--cora FOLDER] [--nodes 1000 ...] [--large 64000 ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.relaxation import activation, relax
from nearfar.graph.budget import AugmentationBudget
from nearfar.graph.compactness import compactness_bound, contrast_vectors, project
from nearfar.graph.contrast.method import EncodedViews
from nearfar.graph.datasets import GraphDataset
from nearfar.graph.intervals import IntervalAdjacency, edge_interval, normalised
from nearfar.graph.pattern import Pattern, spmm
from nearfar.graph.pot.config import POTConfig
from nearfar.graph.pot.method import POT, Bounded
from nearfar.graph.surroundings import Mode, Surroundings
from nearfar.graph.task import GraphTask
from nearfar.graph.views import GraphBatch
from nearfar.pipelines.train import prepare
from nearfar.runtime import Runtime
from nearfar.training import Trainer

if TYPE_CHECKING:
    from benchmarks.measure import Cost, cost, cost_of_one_call, in_fresh_process
else:
    from measure import Cost, cost, cost_of_one_call, in_fresh_process  # first on the path of a script

SIDES = ("dense", "surrogate", "certified")
FIGURES = {"bounds": "bounds, once", "forward": "forward", "step": "forward + backward"}
CORA = {
    "base": "GRACE",
    "sampled": "GRACE + POT, sampled",
    "surrogate": "GRACE + POT, surrogate",
    "certified": "GRACE + POT, certified",
    "dense": "GRACE + POT, dense surrogate",
}
SMALL_DIMS, LARGE_DIMS = (128, 256, 128), (64, 128, 64)
RATE, DEGREE = 0.4, 10
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Problem:
    """A graph, budgets, an encoder with gradients and contrast vectors."""

    x: Tensor
    edge_index: Tensor
    q: Tensor
    encoder: TwoLayers
    w: Tensor

    @classmethod
    def of(cls, nodes: int, dims: tuple[int, int, int]) -> Problem:
        """A skewed random graph and a random ReLU encoder."""
        rng = torch.Generator().manual_seed(0)
        edges = skewed_graph(nodes, rng)
        d0, d1, d2 = dims
        weights = [torch.randn(a, b, generator=rng) / a**0.5 for a, b in ((d0, d1), (d1, d2))]
        biases = [0.1 * torch.randn(width, generator=rng) for width in (d1, d2)]
        encoder = TwoLayers.of(
            [(a.requires_grad_(), b.requires_grad_()) for a, b in zip(weights, biases, strict=True)], 0.0
        )
        w = contrast_vectors(torch.randn(nodes, d2, generator=rng)).requires_grad_()
        q = AugmentationBudget(RATE).of(edges, nodes)
        return cls(torch.randn(nodes, d0, generator=rng), edges, q, encoder, w)

    def intervals(self, *, tight: bool) -> IntervalAdjacency:
        """Sparse bounds."""
        return edge_interval(self.edge_index, len(self.x), self.q, tight=tight)

    def graphs(self) -> tuple[Pattern, Tensor, Tensor]:
        """Entries of the graph, and its values there and those of one view."""
        plain = self.intervals(tight=False)
        draws = torch.rand(len(plain.col), generator=torch.Generator().manual_seed(1))
        kept = (draws > RATE) | plain.is_self
        original = normalised(plain, torch.ones_like(kept), torch.float32)
        return plain.pattern, original, normalised(plain, kept, torch.float32)


def skewed_graph(nodes: int, rng: torch.Generator) -> Tensor:
    """Undirected edges in both directions, one end by popularity, the other uniform; ``(2, E)``, each once."""
    popularity = torch.rand(nodes, generator=rng).pow(-0.45).double().cumsum(0)
    pairs = nodes * DEGREE // 2
    a = torch.searchsorted(popularity / popularity[-1], torch.rand(pairs, generator=rng).double())
    b = torch.randint(nodes, (pairs,), generator=rng)
    key = (torch.minimum(a, b) * nodes + torch.maximum(a, b))[a != b].unique()
    low, high = key // nodes, key % nodes
    return torch.stack([torch.cat([low, high]), torch.cat([high, low])])


def dense_bounds(edge_index: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """L and U of the published set of graphs, float32, shape ``(n, n)`` each."""
    nodes = len(q)
    support = torch.zeros(nodes, nodes, dtype=torch.float64)
    support[edge_index[1], edge_index[0]] = 1
    support.fill_diagonal_(1)
    degree = support.sum(1)
    most = (degree - q).rsqrt()
    upper = most[:, None] * most * support
    return torch.diag(1 / degree).float(), upper.float()


def dense_surrogate(
    bounds: tuple[Tensor, Tensor],
    x: Tensor,
    encoder: TwoLayers,
    w: Tensor,
    graphs: tuple[Pattern, Tensor, Tensor],
) -> Tensor:
    """The published score with n x n bounds, shape ``(n,)``; the sampled graph applied transposed, as published."""
    (w1, w2), (b1, b2), (lower, upper) = encoder.weights, encoder.biases, bounds
    pattern, original, sampled = graphs
    half_sum, half_width = (upper + lower) / 2, (upper - lower) / 2
    assert b1 is not None
    assert b2 is not None

    def lines(heard: Tensor, bias: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        middle, radius = half_sum @ heard + bias, half_width @ heard.abs()
        return relax(middle - radius, middle + radius, encoder.slopes[layer])

    s1, t1 = lines(x @ w1, b1, 0)
    hidden = activation(spmm(pattern, original, x @ w1) + b1, encoder.slopes[0])
    s2, t2 = lines(hidden @ w2, b2, 1)
    top = s2 * w
    v = top @ w2.T
    own = s1 * v
    c2 = top @ b2 - torch.diagonal((-w).relu() @ t2.T)
    c1 = own @ b1 - torch.diagonal((-v).relu() @ t1.T)
    r = (x * (own @ w1.T)).sum(1)
    turned, values = pattern.transposed, sampled[pattern.to_transposed]
    once = spmm(turned, values, r[:, None])[:, 0] + c1
    return spmm(turned, values, once[:, None])[:, 0] + c2


def bounds_of(side: str, problem: Problem) -> Any:
    """What one side makes once per graph and budget."""
    if side == "dense":
        return dense_bounds(problem.edge_index, problem.q)
    mode: Mode = "certified" if side == "certified" else "surrogate"
    return Surroundings.of(problem.intervals(tight=side == "certified"), mode)


def forward_of(side: str, problem: Problem) -> Callable[[], Tensor]:
    """Scores of all nodes, the bounds made."""
    bounds, graphs = bounds_of(side, problem), problem.graphs()
    x, encoder, w = problem.x, problem.encoder, problem.w

    def forward() -> Tensor:
        if side == "dense":
            return dense_surrogate(bounds, x, encoder, w, graphs)
        scores: Tensor = bounds.bound(encoder, project(x, encoder.weights[0]), w, graphs[2])
        return scores

    return forward


def step_of(side: str, problem: Problem) -> Callable[[], list[Tensor]]:
    """Scores and the gradients of POT's loss to weights, biases and contrast vectors."""
    forward = forward_of(side, problem)
    wanted = [x for x in (*problem.encoder.weights, *problem.encoder.biases, problem.w) if x is not None]

    def step() -> list[Tensor]:
        scores = forward()
        loss = torch.nn.functional.softplus(-scores).mean()
        return [scores.detach(), *torch.autograd.grad(loss, wanted)]

    return step


def check(nodes: int) -> None:
    """The dense form and the sparse one agree."""
    problem = Problem.of(nodes, SMALL_DIMS)
    for a, b in zip(*(step_of(side, problem)() for side in SIDES[:2]), strict=True):
        refuse_difference(a, b)


def refuse_difference(a: Tensor, b: Tensor) -> None:
    """End here if two results are not the same."""
    error = ((a - b).norm() / b.norm()).item()
    if not error < TOLERANCE:
        raise SystemExit(f"dense and sparse surrogate differ by {error:.1e}")


def run_of(side: str, figure: str, problem: Problem) -> Callable[[], object]:
    """What a figure of the first table is the cost of."""
    if figure == "bounds":
        return partial(bounds_of, side, problem)
    if figure == "forward":
        return torch.no_grad()(forward_of(side, problem))
    return step_of(side, problem)


def measured(side: str, figure: str, nodes: int) -> Cost:
    """One figure of the first table."""
    run_of(side, figure, Problem.of(200, SMALL_DIMS))()  # code and libraries
    return cost(run_of(side, figure, Problem.of(nodes, SMALL_DIMS)), "cpu", seconds=1.0)


def measured_large(nodes: int) -> tuple[Cost, int]:
    """All of a certificate, bounds included, and the number of edges."""

    @torch.no_grad()
    def certificate(problem: Problem) -> Tensor:
        encoder, q, w = problem.encoder, problem.q, problem.w
        layers = list(zip(encoder.weights, encoder.biases, strict=True))
        return compactness_bound(problem.x, problem.edge_index, layers=layers, slope=0.0, w=w, q=q)

    certificate(Problem.of(200, LARGE_DIMS))
    problem = Problem.of(nodes, LARGE_DIMS)
    return cost_of_one_call(lambda: certificate(problem)), problem.edge_index.shape[1]


class DensePOT(POT):
    """POT whose surrogate is the dense form, its bounds kept.

    Args:
        config: Of the surrogate.
        dataset: The graph.
    """

    def __init__(self, config: POTConfig, dataset: GraphDataset) -> None:
        super().__init__(config, dataset)
        self.x = dataset.x
        rates, edges = (config.augment.drop_1, config.augment.drop_2), dataset.edge_index
        budgets = [AugmentationBudget(rate).of(edges, dataset.num_nodes) for rate in rates]
        self.dense = [dense_bounds(edges, q) for q in budgets]

    def compactness(self, batch: GraphBatch, encoded: EncodedViews) -> tuple[Tensor, Tensor]:
        """Of all nodes in both views, shape ``(n,)`` each."""
        bounded, plain = batch.extra, self.graph.plain
        assert isinstance(bounded, Bounded)
        first, second = (
            dense_surrogate(
                self.dense[view],
                self.x,
                encoded.layers,
                contrast_vectors(encoded.z[1 - view]),
                (plain.pattern, plain.upper, batch.values[view]),
            )
            for view in (0, 1)
        )
        return first, second


def measured_cora(side: str, folder: Path) -> Cost:
    """A training step, which is an epoch."""
    overrides = ["data=cora", f"data_dir={folder}", "tracking.enabled=false", "device=cpu"]
    if side != "base":
        overrides.append(f"compactness.mode={'surrogate' if side == 'dense' else side}")
    _, config, task = prepare("graph.contrast" if side == "base" else "graph.pot", overrides)
    if side == "dense":
        assert isinstance(config, POTConfig)
        task = GraphTask(config, DensePOT)
    runtime = Runtime.start("cpu")
    method, source = task.build(config), task.batches(config, runtime)
    if isinstance(method, DensePOT):
        batch: Any = source.batch(0)
        encoded = method.encode_views(batch)
        for a, b in zip(
            method.compactness(batch, encoded), POT.compactness(method, batch, encoded), strict=True
        ):
            refuse_difference(a, b)
    trainer = Trainer.of(method, source, config, runtime)
    trainer.step(source.batch(0))
    return cost(lambda: trainer.step(source.batch(trainer.done.step)), "cpu", seconds=3.0)


def child(side: str, figure: str, nodes: int, cora: Path | None) -> dict[str, Any]:
    """What a process of its own measures."""
    torch.set_num_threads(1)
    if figure == "cora":
        assert cora is not None
        return asdict(measured_cora(side, cora))
    if figure == "large":
        found, edges = measured_large(nodes)
        return {**asdict(found), "edges": edges}
    return asdict(measured(side, figure, nodes))


def started(side: str, figure: str, *options: str) -> dict[str, Any]:
    """Its figures."""
    return in_fresh_process([__file__, "--child", side, "--figure", figure, *options], {})


def cell(one: dict[str, Any], reference: dict[str, Any] | None) -> str:
    """Seconds and memory, and how many times less than the reference that is."""
    text = f"{one['seconds']:.3f} s, {one['megabytes']:.0f} MB"
    if reference is None:
        return text
    memory = max(reference["megabytes"], 1) / max(one["megabytes"], 1)
    return f"{text} ({reference['seconds'] / one['seconds']:.1f}x, {memory:.1f}x)"


def print_small(sizes: list[int]) -> None:
    """Dense against sparse."""
    print(
        f"average degree {DEGREE}, dims {'/'.join(map(str, SMALL_DIMS))}; in brackets: times less than dense\n"
    )
    print("| nodes | form | " + " | ".join(FIGURES.values()) + " |\n|--|--|--|--|--|")
    for nodes in sizes:
        check(nodes)
        dense: dict[str, Any] = {}
        for side in SIDES:
            found = {figure: started(side, figure, "--nodes", str(nodes)) for figure in FIGURES}
            cells = [cell(found[figure], dense.get(figure)) for figure in FIGURES]
            dense = dense or found
            print(f"| {nodes:,} | {side} | " + " | ".join(cells) + " |", flush=True)


def print_large(sizes: list[int]) -> None:
    """Certificates of whole graphs."""
    print(
        f"\ncertified, dims {'/'.join(map(str, LARGE_DIMS))}, bounds included, no gradient, a single call\n"
    )
    print("| nodes | directed edges | seconds | MB |\n|--|--|--|--|")
    for nodes in sizes:
        one = started("certified", "large", "--nodes", str(nodes))
        print(
            f"| {nodes:,} | {one['edges']:,} | {one['seconds']:.1f} | {one['megabytes']:,.0f} |", flush=True
        )


def print_cora(folder: Path | None) -> None:
    """Steps of training."""
    if folder is None:
        print("\nCora: left out; pass --cora FOLDER, the data_dir that has it")
        return
    found = {side: started(side, "cora", "--cora", str(folder)) for side in CORA}
    print("\nCora, one training step (an epoch), batch included\n")
    print("| training | step | dense / this | above GRACE alone | dense / this |\n|--|--|--|--|--|")
    base, dense = found["base"]["seconds"], found["dense"]["seconds"]
    for side, name in CORA.items():
        seconds = found[side]["seconds"]
        cells = [name, cell(found[side], None), "", "", ""]
        if side != "base":
            above = seconds - base
            cells[2:] = f"{dense / seconds:.1f}x", f"{above:.3f} s", f"{(dense - base) / above:.1f}x"
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    parser.add_argument("--large", type=int, nargs="*", default=[64_000, 250_000, 1_000_000])
    parser.add_argument("--quick", action="store_true", help="leave out 8,000 nodes and the million")
    parser.add_argument("--cora", type=Path, metavar="FOLDER", help="data_dir with Planetoid's Cora")
    parser.add_argument("--child", choices=sorted({*SIDES, *CORA}), help="measure one figure and print JSON")
    parser.add_argument("--figure", choices=[*FIGURES, "large", "cora"], default="step")
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child, arguments.figure, arguments.nodes[0], arguments.cora)))
        return
    torch.set_num_threads(1)
    print_small([n for n in arguments.nodes if n < 8000 or not arguments.quick])
    print_large([n for n in arguments.large if n < 1_000_000 or not arguments.quick])
    print_cora(arguments.cora)


if __name__ == "__main__":
    main()
