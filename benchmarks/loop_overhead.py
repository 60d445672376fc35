"""What the training loop costs beside the model: SASRec on ml-100k in a bare PyTorch loop and in ours.

Ours checks every loss, logs to an MLflow store, saves checkpoints and can be resumed; the bare loop does none of it.
Both train the same batches from the same weights with the same optimiser, by turns, in one process on one thread;
validation is left out of both. Printed: seconds per step of each (wall, and CPU of the training thread alone),
their ratio, the share of checkpoints, and, from one more run of ours, what of its time passes outside the calls that
both loops make (batch, forward, backward, optimiser): a difference of two runs drowns in the noise of a busy machine,
this does not.

Arguments: --epochs, --repeats.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from nearfar.messages import warn
from nearfar.pipelines.train import prepare
from nearfar.recsys import SASRec
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime
from nearfar.tracking import open_store, start_run
from nearfar.training import Checkpoint, CheckpointStore, StepContext, fit


class TimedStore(CheckpointStore):
    """Counts the seconds spent saving."""

    seconds = 0.0

    def save(self, checkpoint: Checkpoint, *, best: int | None = None) -> Path:
        """As the store does."""
        begun = time.perf_counter()
        path = super().save(checkpoint, best=best)
        self.seconds += time.perf_counter() - begun
        return path


class Cost(NamedTuple):
    """Seconds per step by the clock and of the training thread, the last loss, steps, and the share spent saving."""

    wall: float
    thread: float
    loss: float
    steps: int
    saving: float = 0.0


class Stopwatch:
    """Adds up the CPU seconds this thread spends inside the calls it is wrapped around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds += time.thread_time() - begun

        return timed


def outside(epochs: int) -> float:
    """Share of our loop's CPU time that is neither batch, forward, backward nor optimiser."""
    watch, backward, update = Stopwatch(), torch.Tensor.backward, torch.optim.Adam.step
    with (
        mock.patch.object(torch.Tensor, "backward", watch.wrap(backward)),
        mock.patch.object(torch.optim.Adam, "step", watch.wrap(update)),
        mock.patch.object(SASRec, "step", watch.wrap(SASRec.step)),
        mock.patch.object(WindowBatches, "batch", watch.wrap(WindowBatches.batch)),
    ):
        cost = ours(epochs)
    return 1 - watch.seconds / (cost.thread * cost.steps)


def bare(epochs: int) -> Cost:
    """A loop as one would write it."""
    runtime = Runtime.start("cpu")
    _, config, task = prepare("recsys.sasrec", ["data=ml-100k", "device=cpu"])
    method, source = task.build(config), task.batches(config, runtime)
    optimizer = method.optimizers(config.optim)["main"]
    steps = epochs * source.steps_per_epoch
    loss = torch.zeros(())
    method.train()
    begun, cpu = time.perf_counter(), time.thread_time()
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss = method.step(source.batch(step), StepContext(0, step, runtime)).loss
        loss.backward()
        optimizer.step()
    wall, own = time.perf_counter() - begun, time.thread_time() - cpu
    return Cost(wall / steps, own / steps, float(loss.detach()), steps)


def ours(epochs: int) -> Cost:
    """The loop of every run, with store, journal and checkpoints."""
    runtime = Runtime.start("cpu")
    _, config, task = prepare("recsys.sasrec", ["data=ml-100k", "device=cpu", f"epochs={epochs}"])
    method, source = task.build(config), task.batches(config, runtime)
    losses: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = start_run(
            open_store(f"sqlite:///{folder}/mlflow.db"),
            experiment="overhead",
            name="overhead",
            params={},
            tags={},
            outbox=folder / "outbox.jsonl",
            warn=warn,
        )

        def log(metrics: dict[str, float], step: int) -> None:
            losses[step] = metrics["train/loss"]
            run.log(metrics, step)

        store = TimedStore(folder / "checkpoints")
        begun, cpu = time.perf_counter(), time.thread_time()
        result = fit(
            method,
            source,
            config=config,
            runtime=runtime,
            log=log,  # type: ignore[arg-type]
            store=store,
            before_save=run.persist,
            quiet=True,
        )
        wall, own = time.perf_counter() - begun, time.thread_time() - cpu
        run.finish("FINISHED")
    return Cost(
        wall / result.steps, own / result.steps, losses[max(losses)], result.steps, store.seconds / wall
    )


def main() -> None:
    """Measure both by turns and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bare(1)  # warms up both
    left, right = [], []
    for _ in range(arguments.repeats):
        left.append(bare(arguments.epochs))
        right.append(ours(arguments.epochs))
    for title, place in (("wall", "wall"), ("CPU of the training thread", "thread")):
        a = statistics.median(getattr(row, place) for row in left)
        b = statistics.median(getattr(row, place) for row in right)
        ratios = sorted(
            getattr(two, place) / getattr(one, place) for one, two in zip(left, right, strict=True)
        )
        print(
            f"{title}: bare {1e3 * a:.2f} ms a step, ours {1e3 * b:.2f} ms; ratio of the pairs "
            f"{statistics.median(ratios):.4f} ({ratios[0]:.4f} to {ratios[-1]:.4f})"
        )
    print(f"checkpoints: {100 * statistics.median(row.saving for row in right):.2f} % of our wall time")
    share = outside(arguments.epochs)
    print(
        f"outside batch, forward, backward and optimiser: {100 * share:.2f} % of the training thread's time"
    )
    print(f"last losses: bare {left[-1].loss:.6f}, ours {right[-1].loss:.6f} (other dropout masks)")


if __name__ == "__main__":
    main()
