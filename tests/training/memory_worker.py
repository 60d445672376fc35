"""Train a contrast whose dense logits do not fit below a ceiling on address space; print how it went."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from nearfar.config import RunConfig
from nearfar.errors import OutOfMemoryError
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyViews
from nearfar.training import CheckpointStore, fit
from nearfar.training.trainer import Trainer

ROWS = 6144  # dense logits of two updates, their exponentials and gradients: several times 150 MB


def address_space() -> int:
    """Bytes this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> None:
    """Arguments: folder, and the MB to be had beyond what is mapped before training (0: no ceiling)."""
    folder, spare = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    runtime = Runtime.start("cpu")
    method = ToyContrast(dim=32, backend="dense")
    method.memory_settings = ("toy.rows",)  # type: ignore[misc]
    source = ToyViews(0, batch_size=ROWS, num_rows=ROWS)
    config: RunConfig = ToyConfig(epochs=2, log_every=1)
    losses: dict[int, float] = {}
    # Threads of the allocator and of autograd are started before the ceiling.
    Trainer.of(ToyContrast(), ToyViews(), config, runtime).step(ToyViews().batch(0))
    if spare:
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + (spare << 20), resource.RLIM_INFINITY))
    answer: dict[str, object] = {}
    store = CheckpointStore(folder)
    try:
        fit(
            method,
            source,
            config=config,
            runtime=runtime,
            log=lambda metrics, step: losses.update({step: metrics["train/loss"]}),
            store=store,
            quiet=True,
        )
        answer["level"] = store.load(store.steps()[-1]).memory_level
    except OutOfMemoryError as error:
        answer["error"] = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    answer["losses"] = [losses[step] for step in sorted(losses)]
    answer["files"] = sorted(path.name for path in folder.iterdir())
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
