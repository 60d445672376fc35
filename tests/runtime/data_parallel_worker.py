"""Train every method given, with settings behind its name, for twenty steps as one rank of however many there are.

Prints the losses as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from nearfar.pipelines.registry import methods
from nearfar.pipelines.settings import resolve_settings
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyViews
from nearfar.training import fit

STEPS = 20


def losses_of(method: Any, source: Any, config: Any, runtime: Runtime) -> list[float]:
    """Loss of every step, averaged over the ranks by the loop."""
    losses: dict[int, float] = {}

    def log(metrics: Any, step: int) -> None:
        losses[step] = metrics["train/loss"]

    fit(method, source, config=config, runtime=runtime, log=log, quiet=True)
    return [losses[step] for step in range(min(STEPS, len(losses)))]


def main() -> None:
    """Names of methods are the arguments; the first is the folder for the examples."""
    torch.set_num_threads(1)
    runtime = Runtime.start("cpu")
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    answer: dict[str, list[float]] = {}
    # float64 with uneven shares. The queue holds whole batches: which rows of a batch leave it first depends on the
    # order in which processes hand them over.
    toy = ToyContrast(queue_size=28).double()
    views = ToyViews(0, runtime, batch_size=7, num_rows=35, dtype=torch.float64)
    answer["toy"] = losses_of(toy, views, ToyConfig(epochs=4, log_every=3), runtime)
    for name in names:
        method_name, *more = name.split()
        entry = methods()[method_name]
        words = [*entry.load("example")(folder / f"{method_name}-{runtime.rank}"), *more]
        # Dropout draws on each process by itself; everything else is the same on any number of them.
        config = resolve_settings(entry, [*words, *_without_dropout(entry)], environment={})
        task = entry.load("task")(config, entry.load("method"))
        method = task.build(config)
        if not method.updates(0):
            continue
        config = config.model_copy(
            update={"epochs": -(-STEPS // task.batches(config, runtime).steps_per_epoch)}
        )
        answer[name] = losses_of(method, task.batches(config, runtime), config, runtime)
    runtime.close()
    sys.stdout.write(json.dumps(answer) + "\n")


def _without_dropout(entry: Any) -> list[str]:
    return [f"{key}=0" for key in entry.load("config").model_fields if "dropout" in key]


if __name__ == "__main__":
    main()
