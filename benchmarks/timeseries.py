"""Evaluation and training of AutoTCL's forecasting encoder, and its probe: the published way against ours, in one run.

A fresh process on one thread per figure, process CPU seconds. The published way is our own encoder with eight
convolutions in its trend head, on whole windows; long figures are extrapolated from a part, which is said. Ours must
give the same representations, gradients and penalties: the largest differences are printed. The causal encoder is
another model, not another computation of the same.

    python benchmarks/timeseries.py [--data-dir FOLDER] [--quick]

With --data-dir the series is ETTh1, else a made one of the same size.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nearfar.optional import installed, require
from nearfar.runtime import generator, isolated_rng
from nearfar.timeseries.datasets import ForecastDataset, load_dataset
from nearfar.timeseries.encoder import (
    SeriesEncoder,
    StreamingEncoder,
    causal_representations,
    rolling_representations,
)
from nearfar.timeseries.encoder.trend import TrendHead, TrendMode
from nearfar.timeseries.forecasting.choice import select_penalty
from nearfar.timeseries.forecasting.moments import nested_moments
from nearfar.timeseries.forecasting.residual_probe import rows_by_horizon
from nearfar.timeseries.forecasting.ridge import ALPHAS, ridge_path
from nearfar.timeseries.forecasting.samples import JointSamples
from nearfar.timeseries.forecasting.split import ForecastSplit

if TYPE_CHECKING:
    from benchmarks.measure import Cost, cost, cost_of_one_call, in_fresh_process
else:
    from measure import Cost, cost, cost_of_one_call, in_fresh_process  # first on the path of a script

ROWS, CHANNELS = 17_420, 8
SPLIT = ForecastSplit(8_640, 11_520, 14_400)
HORIZONS = (24, 48, 168, 336, 720)
WINDOW, FIRST = 201, 200
WINDOWS = SPLIT.test_end - FIRST
SEED = 44
CROP, FEW_ROWS, MANY_ROWS = 257, 8, 64
LIGHT: dict[str, Any] = {
    "depth": 6,
    "causal": True,
    "head": "light",
    "normalize": "trailing",
    "num_covariates": 7,
}


def series(data_dir: Path | None) -> Tensor:
    """Calendar and values, ``(N, 8)``."""
    if data_dir is not None:
        dataset = load_dataset("etth1", data_dir)
        assert isinstance(dataset, ForecastDataset)
        return dataset.inputs
    noise = torch.randn(ROWS, CHANNELS, generator=generator(SEED, "series"))
    hours = torch.arange(ROWS)[:, None] * (2 * math.pi / 24)
    return noise + (hours / torch.arange(1, CHANNELS + 1)).sin()


def encoder(**settings: Any) -> SeriesEncoder:
    """The encoder of a seed."""
    with isolated_rng():
        torch.manual_seed(SEED)
        return SeriesEncoder(CHANNELS, dropout=0.0, **settings)


def published(mode: TrendMode) -> SeriesEncoder:
    """The published encoder with its trend computed in a way."""
    made = encoder(head="trend")
    assert isinstance(made.head, TrendHead)
    made.head.mode = mode
    return made


# Evaluation


@torch.inference_mode()
def whole_windows(model: SeriesEncoder, x: Tensor, count: int) -> Tensor:
    """The last steps of the first windows, each encoded whole, sixteen at a time."""
    windows = x[: count + WINDOW - 1].unfold(0, WINDOW, 1).mT
    return torch.cat([model.represent(part)[:, -1] for part in windows.split(16)])


def evaluation(side: str, x: Tensor, quick: bool) -> dict[str, Any]:
    """One way to represent all steps that the benchmark needs."""
    count = 512 if quick else WINDOWS
    if side in ("direct", "collapsed"):
        model = published(side).eval()  # type: ignore[arg-type]
        measured = 32 if quick else 128 if side == "direct" else 256
        whole_windows(model, x, 16)
        found = cost_of_one_call(lambda: whole_windows(model, x, measured))
        return figures(found, WINDOWS / measured, f"extrapolated from {measured} windows")
    if side == "exact":
        model = published("direct").eval()
        rolling_representations(model, x[:500])
        found = cost_of_one_call(lambda: rolling_representations(model, x, start=FIRST, stop=FIRST + count))
        expected = whole_windows(model, x, 64)
        ours = rolling_representations(model, x, start=FIRST, stop=FIRST + 64)
        note = f"largest difference {float((ours - expected).abs().max()):.1e} of {float(expected.abs().max()):.2f}"
        return figures(found, WINDOWS / count, f"extrapolated; {note}" if quick else note)
    model = (encoder(head="trend", depth=6, causal=True) if side == "causal" else encoder(**LIGHT)).eval()
    if side == "stream":
        stream = StreamingEncoder(model)
        stream.push(x[None, :5000])
        found = cost(lambda: [stream.push(x[t : t + 1]) for t in range(5000, 5100)], "cpu")
        return figures(found, WINDOWS / 100, "extrapolated from 100 points, one by one")
    causal_representations(model, x[:500])
    found = cost(lambda: causal_representations(model, x[: SPLIT.test_end]), "cpu")
    with torch.inference_mode():
        expected = model.eval().represent(x[None, :3000])[0]
    ours = causal_representations(model, x[:3000], chunk=700)
    return figures(found, 1, f"chunks against one pass: {float((ours - expected).abs().max()):.1e}")


# Training


def gradients(model: SeriesEncoder, crops: Tensor) -> Tensor:
    """Of a smooth loss, all in a row; they stay in the parameters too."""
    for parameter in model.parameters():
        parameter.grad = None
    torch.nn.functional.normalize(model(crops).amax(1), dim=1).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def training(side: str, x: Tensor, quick: bool) -> dict[str, Any]:
    """Forward and backward of one batch of crops, both views in it."""
    rows = FEW_ROWS if side in ("direct", "collapsed") or quick else MANY_ROWS
    starts = torch.randint(SPLIT.train_end - CROP, (MANY_ROWS,), generator=generator(SEED, "crops"))
    crops = torch.stack([x[start : start + CROP] for start in starts.tolist()])
    model = encoder(**LIGHT) if side == "light" else published(side)  # type: ignore[arg-type]
    gradients(model, crops[:1])
    found = cost(lambda: gradients(model, crops[:rows]), "cpu", most=3)
    note = "" if rows == MANY_ROWS else f"extrapolated from {rows} rows"
    if side in ("collapsed", "fourier"):
        expected, ours = gradients(published("direct"), crops[:2]), gradients(model, crops[:2])
        difference = float((ours - expected).abs().max() / expected.abs().max())
        note += f"{'; ' * bool(note)}largest difference of a gradient {difference:.1e} of the largest"
    return figures(found, MANY_ROWS / rows, note)


# Probe


def probe(side: str, x: Tensor, quick: bool) -> dict[str, Any]:
    """Thirteen penalties for every horizon, chosen by validation."""
    phi = causal_representations(encoder(depth=6, causal=True), x)
    values = x[:, -1:].double()
    horizons = HORIZONS[:2] if quick else HORIZONS
    run = our_probe if side == "ours" else sklearn_probe
    chosen: list[tuple[float, float]] = []

    def once() -> None:
        chosen[:] = run(phi, values, horizons)

    found = cost(once, "cpu", most=3)
    return {**figures(found, 1, f"{len(horizons)} horizons, 320 features"), "chosen": chosen}


def our_probe(phi: Tensor, values: Tensor, horizons: tuple[int, ...]) -> list[tuple[float, float]]:
    """Chosen penalty and its validation error of every horizon, from moments."""
    samples = JointSamples(values, phi)
    train, val = (rows_by_horizon(SPLIT, part, horizons, FIRST) for part in ("train", "val"))
    learnt, held_out = nested_moments(samples, train), nested_moments(samples, val)
    found = []
    for horizon in horizons:
        path = ridge_path(learnt[horizon], ALPHAS)
        penalty = select_penalty(path, samples, held_out[horizon], val[horizon], horizon)
        found.append((penalty.alpha, penalty.errors.mse))
    return found


def sklearn_probe(phi: Tensor, values: Tensor, horizons: tuple[int, ...]) -> list[tuple[float, float]]:
    """The same by scikit-learn, one fit a penalty as the published program does."""
    ridge = require("sklearn.linear_model", "the comparison with scikit-learn").Ridge
    samples = JointSamples(values, phi)
    train, val = (rows_by_horizon(SPLIT, part, horizons, FIRST) for part in ("train", "val"))
    found = []
    for horizon in horizons:
        (x, y), (held_x, held_y) = (
            (samples.features(rows).numpy(), samples.targets(rows, horizon).numpy())
            for rows in (train[horizon], val[horizon])
        )
        tried = []
        for alpha in ALPHAS:
            error = ridge(alpha=alpha).fit(x, y).predict(held_x) - held_y
            mse = float(np.square(error).mean())
            tried.append((math.sqrt(mse) + float(np.abs(error).mean()), alpha, mse))
        _, alpha, mse = min(tried)
        found.append((alpha, mse))
    return found


# Report

Part = Callable[[str, Tensor, bool], dict[str, Any]]
PARTS: dict[str, tuple[str, Part, dict[str, str]]] = {
    "evaluation": (
        f"Representations of {WINDOWS:,} steps of ETTh1's length, F = 8, D = 320",
        evaluation,
        {
            "direct": "whole windows, eight convolutions (published)",
            "collapsed": "whole windows, one kernel of 128 taps",
            "exact": "rolling_representations, the same model",
            "causal": "one pass, causal, depth 6, trend head",
            "light": "one pass, causal, depth 6, light head, trailing normalisation",
            "stream": "the same, point by point",
        },
    ),
    "training": (
        f"Forward and backward of 2 x 32 crops of {CROP} steps",
        training,
        {
            "direct": "eight convolutions (published)",
            "collapsed": "one kernel of 128 taps",
            "fourier": "frequency domain (ours)",
            "light": "causal, depth 6, light head (another model)",
        },
    ),
    "probe": (
        "Ridge regression, 13 penalties a horizon",
        probe,
        {"sklearn": "scikit-learn, a fit a penalty", "ours": "moments and one eigendecomposition"},
    ),
}


def figures(found: Cost, factor: float, note: str) -> dict[str, Any]:
    """What a child prints."""
    return {"seconds": found.seconds * factor, "megabytes": found.megabytes, "note": note}


def report(name: str, options: list[str]) -> None:
    """One part: its sides, how many times less each costs than the first, and whether they agree."""
    title, _, sides = PARTS[name]
    if name == "probe" and not installed("sklearn"):
        print(f"\n{title}: left out, scikit-learn is not installed")
        return
    print(f"\n{title}\n\n| | CPU s | times less | peak MB | |\n|--|--|--|--|--|")
    found: dict[str, Mapping[str, Any]] = {}
    for side, words in sides.items():
        figure = in_fresh_process([__file__, "--child", name, side, *options], {})
        found[side] = figure
        first = next(iter(found.values()))
        times = first["seconds"] / figure["seconds"]
        print(
            f"| {words} | {figure['seconds']:,.2f} | {times:,.1f} | {figure['megabytes']:,.0f} | {figure['note']} |",
            flush=True,
        )
    if name == "probe":
        pairs = list(zip(found["ours"]["chosen"], found["sklearn"]["chosen"], strict=True))
        same = sum(ours[0] == theirs[0] for ours, theirs in pairs)
        apart = max(abs(ours[1] / theirs[1] - 1) for ours, theirs in pairs)
        print(
            f"\nSame penalty chosen for {same} of {len(pairs)} horizons; errors differ by {apart:.1e} at most."
        )


def main() -> None:
    """Measure all sides and print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="folder with ETTh1.csv")
    parser.add_argument("--quick", action="store_true", help="extrapolate more")
    parser.add_argument("--part", choices=[*PARTS], nargs="+", default=[*PARTS])
    parser.add_argument(
        "--child", nargs=2, metavar=("PART", "SIDE"), help="measure one figure and print JSON"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.child:
        part, side = arguments.child
        print(json.dumps(PARTS[part][1](side, series(arguments.data_dir), arguments.quick)))
        return
    options = ["--quick"] if arguments.quick else []
    if arguments.data_dir is not None:
        options += ["--data-dir", str(arguments.data_dir.absolute())]
    print(f"Data: {'made' if arguments.data_dir is None else 'ETTh1'}; one thread, CPU seconds")
    for name in arguments.part:
        report(name, options)


if __name__ == "__main__":
    main()
