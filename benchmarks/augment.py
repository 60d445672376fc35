"""Augmentations of series: milliseconds to draw and apply each one, and the same done sample by sample in NumPy.

All figures are process CPU time on one thread, the median of several repetitions, of 256 series of 512 steps
and 8 features. The NumPy loops draw other numbers from the same laws. With ``--tsai``, tsai's transforms of the
same kind stand beside them; they draw one set of parameters for the whole batch.

    python benchmarks/augment.py [--repetitions 15] [--tsai]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from nearfar.augment import series
from nearfar.augment.series import SeriesOp

ROWS, STEPS, FEATURES = 256, 512, 8
TARGET, TIME_WARP_TARGET = 10.0, 20.0
OPS: dict[str, SeriesOp] = {
    name: op()
    for name in series.__all__
    if issubclass(op := getattr(series, name), SeriesOp) and name not in ("Compose", "OneOf", "SeriesOp")
}
CHAIN = series.Compose((series.Scaling(), series.TimeWarp(), series.Cutout(), series.Jitter()))
Batch = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]


def milliseconds(step: Callable[[], object], repetitions: int) -> float:
    """Median CPU time of a step, after two to warm up."""
    taken = []
    for repetition in range(-2, repetitions):
        started = time.process_time()
        step()
        if repetition >= 0:
            taken.append(time.process_time() - started)
    return 1e3 * statistics.median(taken)


def jitter(x: Batch, rng: np.random.Generator) -> Batch:
    """Noise, a sample at a time."""
    out = np.empty_like(x)
    for row, values in enumerate(x):
        out[row] = values + rng.normal(0, 0.3, values.shape)
    return out


def cutout(x: Batch, rng: np.random.Generator) -> Batch:
    """A window of zeros, a sample at a time."""
    out = x.copy()
    size = STEPS // 10
    for values in out:
        start = rng.integers(STEPS - size + 1)
        values[start : start + size] = 0
    return out


def time_warp(x: Batch, rng: np.random.Generator) -> Batch:
    """Changing speed, a sample and a feature at a time."""
    out, step = np.empty_like(x), np.arange(STEPS)
    for row, values in enumerate(x):
        reached = np.concatenate([[0], np.cumsum(10 ** rng.random(101))])
        place = np.interp(step * (101 / (STEPS - 1)), np.arange(102), reached / reached[-1] * (STEPS - 1))
        for feature in range(FEATURES):
            out[row, :, feature] = np.interp(place, step, values[:, feature])
    return out


def permutation(x: Batch, rng: np.random.Generator) -> Batch:
    """Segments in another order, a sample at a time."""
    out = np.empty_like(x)
    for row, values in enumerate(x):
        cuts = np.sort(rng.choice(np.arange(1, STEPS), rng.integers(1, 5), replace=False))
        pieces = np.split(values, cuts)
        out[row] = np.concatenate([pieces[place] for place in rng.permutation(len(pieces))])
    return out


def low_pass(x: Batch, _: np.random.Generator) -> Batch:
    """Half of the frequencies, a sample at a time."""
    out = np.empty_like(x)
    for row, values in enumerate(x):
        spectrum = np.fft.rfft(values, axis=0)
        spectrum[STEPS // 4 + 1 :] = 0
        out[row] = np.fft.irfft(spectrum, n=STEPS, axis=0)
    return out


LOOPS = {
    "Jitter": jitter,
    "Cutout": cutout,
    "TimeWarp": time_warp,
    "Permutation": permutation,
    "LowPass": low_pass,
}
TSAI = {
    "Jitter": "TSMagAddNoise",
    "Cutout": "TSCutOut",
    "MagnitudeWarp": "TSMagWarp",
    "Scaling": "TSMagScale",
    "TimeWarp": "TSTimeWarp",
    "WindowSlice": "TSWindowSlicing",
    "WindowWarp": "TSWindowWarp",
}


def tsai_steps(x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """tsai's transforms of the same kind, on its layout (B, F, T)."""
    from nearfar.interop.tsai import load

    transforms, core = load("tsai.data.transforms"), load("tsai.data.core")
    batch = core.TSTensor(x.mT.contiguous())

    def step(name: str) -> Callable[[], object]:
        transform = getattr(transforms, name)(p=1.0)
        return lambda: transform(batch, split_idx=0)

    return {ours: step(name) for ours, name in TSAI.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--tsai", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, STEPS, FEATURES, generator=generator)
    lengths = torch.randint(STEPS // 2, STEPS + 1, (ROWS, 1), generator=generator)
    valid = torch.arange(STEPS) < lengths
    rng = np.random.Generator(np.random.Philox(0))
    tsai = tsai_steps(x) if arguments.tsai else {}

    def measured(step: Callable[[], object]) -> float:
        return milliseconds(step, arguments.repetitions)

    print(f"{ROWS} x {STEPS} x {FEATURES} float32, one thread, ms of CPU time to draw and apply")
    print(
        f"{'':18s} {'ours':>7s} {'target':>7s} {'padded':>7s}   NumPy loop, ratio{'   tsai, ratio' if tsai else ''}"
    )
    for name, op in (*OPS.items(), ("Compose of four", CHAIN)):
        ours = measured(lambda op=op: op(x, generator).apply(x))  # type: ignore[misc]
        padded = measured(lambda op=op: op(x, generator, valid=valid).apply(x))  # type: ignore[misc]
        target = TIME_WARP_TARGET if op is CHAIN or name == "TimeWarp" else TARGET
        line = f"{name:18s} {ours:7.2f} {target:7.0f} {padded:7.2f}"
        if name in LOOPS:
            other = measured(lambda name=name: LOOPS[name](x.numpy(), rng))  # type: ignore[misc]
            line += f"   {other:7.1f} {other / ours:5.1f}x"
        elif name in tsai:
            line += " " * 17
        if name in tsai:
            other = measured(tsai[name])
            line += f"   {other:7.1f} {other / ours:5.1f}x"
        print(line)


if __name__ == "__main__":
    main()
