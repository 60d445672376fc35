"""Balanced k-means: what it costs beside a plain greedy loop, and what it finds beside unbalanced clusterings.

Points are latent directions, uniform on the sphere, plus normal noise of deviation 0.1 an entry: in 128 dimensions the
noise is a little longer than the direction (cosine of a point to its direction about 0.66). Everything is CPU time of
one thread; each line measures both sides in one run.

    python benchmarks/balanced_kmeans.py [--part loop compare] [--million] [--save]

loop: 5,000 points, 100 clusters: the greedy assignment by deferred acceptance, and by a loop over all pairs sorted by
score, from the same centres; one iteration, and all of them; and one iteration of a loop that reads every pair from
tensors, as SBCL's released program does.
compare: objective, seconds, and smallest and largest cluster, beside scikit-learn's KMeans and MiniBatchKMeans and
faiss, if installed. These are not balanced, so that a higher objective of theirs is no better answer to the question.
They cluster rows of length 1; their objective is taken from their labels as ours is.
--million: a million points into 10,000 clusters of 100, in a process of its own, with its peak of memory.
--save keeps the figures in benchmarks/results/balanced-kmeans.json, parts that were not run as they were.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.atomic import write_atomically
from nearfar.cluster import BalancedClusters, balanced_kmeans, greedy_assignment
from nearfar.optional import installed, require
from nearfar.runtime import generator

if TYPE_CHECKING:
    from benchmarks import measure
else:
    import measure  # this folder is first on the path of a script

RESULTS = Path(__file__).with_name("results") / "balanced-kmeans.json"
WIDTH, NOISE = 128, 0.1
COMPARED = ((20_000, 200, 500), (100_000, 1000, 5000))
MILLION = (1_000_000, 10_000, 5000)


def latent_points(n: int, latent: int) -> Tensor:
    """Directions plus noise, shape ``(n, 128)``.

    Args:
        n: Points.
        latent: Directions.
    """
    rng = generator(0, "points", n, latent)
    directions = F.normalize(torch.randn(latent, WIDTH, generator=rng), dim=1)
    x = torch.randn(n, WIDTH, generator=rng).mul_(NOISE)
    for part in x.split(2**16):
        part += directions[torch.randint(latent, (len(part),), generator=rng)]
    return x


def seconds(step: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the CPU time it took.

    Args:
        step: What to measure.
    """
    started = time.process_time()
    result = step()
    return result, time.process_time() - started


# Against the loop


def greedy_loop(scores: Tensor) -> Tensor:
    """The two-phase greedy rule, pair by pair.

    Args:
        scores: Shape ``(n, m)``.

    Returns:
        Shape ``(n,)``.
    """
    n, m = scores.shape
    labels = [-1] * n
    pairs = np.argsort(-scores.numpy().ravel(), kind="stable")
    for capacity in (n // m, 1):
        room = [capacity] * m
        left = {i for i in range(n) if labels[i] < 0}
        for pair in pairs:
            if not left:
                break
            i, j = divmod(int(pair), m)
            if room[j] and i in left:
                labels[i] = j
                room[j] -= 1
                left.remove(i)
    return torch.tensor(labels)


def tensor_loop(scores: Tensor) -> Tensor:
    """The same, every pair read from a tensor, to the last, and the points left over one by one.

    Args:
        scores: Shape ``(n, m)``.

    Returns:
        Shape ``(n,)``.
    """
    n, m = scores.shape
    labels = torch.full((n,), -1)
    room = torch.full((m,), n // m)
    for pair in scores.flatten().sort(descending=True, stable=True).indices:
        i, j = pair.item() // m, pair.item() % m
        if labels[i].item() < 0 and room[j].item() > 0:
            labels[i], room[j] = j, room[j] - 1
    free = room.new_ones(m)
    while bool((labels < 0).any()):
        open_scores = scores.masked_fill((labels >= 0)[:, None] | (free == 0), -torch.inf)
        best = int(open_scores.argmax().item())
        labels[best // m], free[best % m] = best % m, 0
    return labels


def iterate(x: Tensor, centers: Tensor, assign: Callable[[Tensor], Tensor], most: int) -> tuple[Tensor, int]:
    """Assignment and unit means in turn until nothing changes; labels, and how many assignments.

    Args:
        x: Unit rows, shape ``(n, d)``.
        centers: Shape ``(m, d)``.
        assign: From scores ``(n, m)`` to labels.
        most: Assignments at most.
    """
    before, labels, count = torch.empty(0), assign(x @ centers.T), 1
    while not torch.equal(labels, before) and count < most:
        before = labels
        centers = F.normalize(torch.zeros_like(centers).index_add_(0, labels, x), dim=1)
        labels, count = assign(x @ centers.T), count + 1
    return labels, count


def against_the_loop() -> dict[str, Any]:
    """5,000 points, 100 clusters; the loop and deferred acceptance in the same k-means, and ours as users call it."""
    n, m = 5000, 100
    x = F.normalize(latent_points(n, m), dim=1)
    start = x[torch.randperm(n, generator=generator(0, "start"))[:m]]
    (ours, count), total = seconds(lambda: iterate(x, start, greedy_assignment, 50))
    (by_loop, loops), loop_total = seconds(lambda: iterate(x, start, greedy_loop, 50))
    assert loops == count
    assert torch.equal(ours, by_loop), "the two are meant to be the same algorithm"
    read, by_tensor = seconds(lambda: tensor_loop(x @ start.T))
    assert torch.equal(read, greedy_assignment(x @ start.T))
    found, whole = min((seconds(lambda: clusters(x, m)) for _ in range(3)), key=lambda pair: pair[1])
    return {
        "n": n,
        "m": m,
        "iterations": count,
        "loop_per_iteration": loop_total / count,
        "ours_per_iteration": total / count,
        "loop_total": loop_total,
        "ours_total": total,
        "ratio": loop_total / total,
        "tensor_loop": by_tensor,
        "whole_call": whole,
        "whole_call_iterations": found.n_iter,
        "objective": found.objective,
        "sizes": [int(found.sizes.min()), int(found.sizes.max())],
    }


def clusters(x: Tensor, m: int, method: Any = "auto") -> BalancedClusters:
    """Ours.

    Args:
        x: Points, shape ``(n, d)``.
        m: Clusters.
        method: As of ``balanced_kmeans``.
    """
    return balanced_kmeans(x, m, method=method, generator=generator(0, "clusters"))


# Beside others


def others(x: Tensor, m: int) -> dict[str, Callable[[], Tensor]]:
    """Unbalanced clusterings by name; each returns labels.

    Args:
        x: Unit rows, shape ``(n, d)``.
        m: Clusters.
    """
    rows = x.numpy()
    sklearn = require("sklearn.cluster", "the comparison")
    found = {
        "sklearn KMeans": lambda: torch.from_numpy(
            sklearn.KMeans(m, n_init=1, max_iter=50, random_state=0).fit(rows).labels_
        ),
        "sklearn MiniBatchKMeans": lambda: torch.from_numpy(
            sklearn.MiniBatchKMeans(m, n_init=1, random_state=0).fit(rows).labels_
        ),
    }
    if installed("faiss"):
        found["faiss Kmeans"] = lambda: _by_faiss(rows, m)
    return found


def _by_faiss(rows: Any, m: int) -> Tensor:
    model = require("faiss", "the comparison").Kmeans(rows.shape[1], m, niter=20, spherical=True, seed=1)
    model.train(rows)
    return torch.from_numpy(model.index.search(rows, 1)[1][:, 0])


def figures(x: Tensor, labels: Tensor, m: int, spent: float) -> dict[str, Any]:
    """Of one clustering.

    Args:
        x: Unit rows, shape ``(n, d)``.
        labels: Shape ``(n,)``.
        m: Clusters.
        spent: CPU seconds.
    """
    labels = labels.long()
    sums = torch.zeros(m, x.shape[1], dtype=torch.float64).index_add_(0, labels, x.double())
    sizes = labels.bincount(minlength=m)
    return {
        "seconds": spent,
        "objective": float(sums.norm(dim=1).sum()) / len(x),
        "sizes": [int(sizes.min()), int(sizes.max())],
    }


def compare(n: int, m: int, latent: int) -> dict[str, Any]:
    """Our methods and the others' on the same points.

    Args:
        n: Points.
        m: Clusters.
        latent: Directions.
    """
    x = F.normalize(latent_points(n, latent), dim=1)
    rows = {}
    for method in ("greedy", "hybrid", "bisection"):
        found, spent = seconds(functools.partial(clusters, x, m, method))
        rows[f"nearfar {method}"] = figures(x, found.labels, m, spent)
    for name, step in others(x, m).items():
        labels, spent = seconds(step)
        rows[name] = figures(x, labels, m, spent)
    return {"n": n, "m": m, "latent": latent, "rows": rows}


# A million


def million(latent: int) -> dict[str, Any]:
    """One clustering of a million points, and this process's peak of memory; the points themselves take 512 MB.

    Args:
        latent: Directions.
    """
    n, m, _ = MILLION
    x = latent_points(n, latent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall = time.perf_counter()
    found, spent = seconds(lambda: clusters(x, m))
    wall = time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "n": n,
        "m": m,
        "latent": latent,
        "seconds": spent,
        "wall": wall,
        "objective": found.objective,
        "sizes": [int(found.sizes.min()), int(found.sizes.max())],
        "assignments": found.n_iter,
        "peak_mb": peak * 1024 / 1e6,
        "peak_before_mb": before * 1024 / 1e6,
    }


# Report


def tables(results: dict[str, Any]) -> str:
    """What is known, as Markdown.

    Args:
        results: By part.
    """
    lines = []
    if loop := results.get("loop"):
        lines += [
            f"{loop['n']:,} points, {loop['m']} clusters, {loop['iterations']} iterations from the same centres",
            "\n| | loop, s | deferred acceptance, s | ratio |\n|--|--|--|--|",
        ]
        for name, key in (("an iteration", "per_iteration"), ("in total", "total")):
            cells = f"{loop[f'loop_{key}']:.3f} | {loop[f'ours_{key}']:.4f} | {loop['ratio']:.0f}"
            lines.append(f"| {name} | {cells} |")
        ratio = loop["tensor_loop"] / loop["ours_per_iteration"]
        cells = f"{loop['tensor_loop']:.3f} | {loop['ours_per_iteration']:.4f} | {ratio:.0f}"
        lines.append(f"| an iteration, pairs read from tensors | {cells} |")
        lines.append(
            f"\nbalanced_kmeans as called by users: {loop['whole_call']:.3f} s, {loop['whole_call_iterations']} "
            f"iterations, objective {loop['objective']:.4f}, sizes {_sizes(loop)}"
        )
    for entry in results.get("compare", []):
        first = entry["rows"]["nearfar greedy"]["seconds"]
        lines += [
            f"\n{entry['n']:,} points of {entry['latent']} directions, {entry['m']} clusters; others unbalanced",
            "\n| | CPU s | time / greedy's | objective | sizes |\n|--|--|--|--|--|",
        ]
        for name, row in entry["rows"].items():
            cells = f"{row['seconds']:.2f} | {row['seconds'] / first:.2f} | {row['objective']:.4f} | {_sizes(row)}"
            lines.append(f"| {name} | {cells} |")
    for entry in results.get("million", []):
        lines += [
            f"\n{entry['n']:,} points of {entry['latent']} directions, {entry['m']:,} clusters: "
            f"{entry['seconds']:.1f} CPU s, {entry['wall']:.1f} s elapsed, sizes {_sizes(entry)},",
            f"objective {entry['objective']:.4f}, "
            f"peak {entry['peak_mb']:,.0f} MB of which {entry['peak_before_mb']:,.0f} MB before",
        ]
    return "\n".join(lines)


def _sizes(row: dict[str, Any]) -> str:
    return "{} to {}".format(*row["sizes"])


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", nargs="*", choices=["loop", "compare"], default=["loop", "compare"])
    parser.add_argument("--million", action="store_true")
    parser.add_argument(
        "--latent", type=int, nargs="+", default=[MILLION[2]], help="directions of the million"
    )
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        print(json.dumps(million(arguments.child)))
        return
    # Packages beside torch read it when they are loaded.
    os.environ.update(measure.ONE_THREAD)
    found: dict[str, Any] = {}
    if "loop" in arguments.part:
        found["loop"] = against_the_loop()
    if "compare" in arguments.part:
        found["compare"] = [compare(*size) for size in COMPARED]
    if arguments.million:
        found["million"] = [
            measure.in_fresh_process([__file__, "--child", str(latent)], {}) for latent in arguments.latent
        ]
    print(tables(found))
    if arguments.save:
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        versions = {name: version(name) for name in ("torch", "scikit-learn", "numpy")}
        rates = measure.product_rates("cpu")
        known |= {**found, "versions": versions, "gflops_of_float32_products": rates}
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(RESULTS, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
