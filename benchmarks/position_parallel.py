"""Training SASRec on whole windows against one padded row per prefix: seconds per epoch, same data, one run.

Both sides use the same encoder, the same full softmax and the same optimiser; only the shape of a batch
differs. Times are process CPU seconds on one thread, so other load on the machine matters little.

    python benchmarks/position_parallel.py [--data ml-100k] [--data-dir DIR] [--steps 20]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.recsys import MCLRec, MCLRecConfig, leave_one_out, load_dataset
from nearfar.recsys.mclrec.batches import Prefixes
from nearfar.recsys.sasrec.loss import next_item_loss
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime, generator

ROWS = 256  # prefixes per batch in the published programs


def seconds_per_target(loss: Callable[[int], tuple[Tensor, int]], method: MCLRec, steps: int) -> float:
    """CPU seconds of forward, backward and optimiser step per predicted item."""
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, fused=True)
    method.train()
    targets, started = 0, 0.0
    for step in range(-2, steps):  # two steps to warm up
        if step == 0:
            targets, started = 0, time.process_time()
        value, count = loss(step + 2)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        targets += count
    return (time.process_time() - started) / targets


def main() -> None:
    """Measure both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    split = leave_one_out(load_dataset(arguments.data, arguments.data_dir).interactions)
    config = MCLRecConfig(data=arguments.data, device="cpu")
    source = WindowBatches(
        split,
        max_length=config.max_length,
        stride=config.window_stride,
        targets_per_batch=config.targets_per_batch,
        seed=0,
        runtime=Runtime.start("cpu"),
    )

    prefixes = Prefixes(split, config.max_length)

    def windows(step: int) -> tuple[Tensor, int]:
        batch = source.batch(step)
        return next_item_loss(method.scorer, batch) / batch.num_targets, batch.num_targets

    def prefix_rows(step: int) -> tuple[Tensor, int]:
        chosen = torch.randint(len(prefixes), (ROWS,), generator=generator(0, "rows", step))
        end, begin = prefixes.ends[chosen], prefixes.begins[chosen]
        length = (end - begin).clamp(max=config.max_length)
        position = torch.arange(config.max_length)
        index = (end - length)[:, None] + position
        rows = prefixes.items[index.clamp(max=len(prefixes.items) - 1)] * (position < length[:, None])
        state = method.scorer(rows)[torch.arange(ROWS), length - 1]
        return F.cross_entropy(method.scorer.logits(state), prefixes.items[end] - 1), ROWS

    total = len(prefixes)
    print(f"{arguments.data}: {total:,} (prefix, next item) pairs per epoch, one thread, CPU seconds")
    results = {}
    for name, loss in (("one row per prefix", prefix_rows), ("whole windows", windows)):
        method = MCLRec(config, split)
        results[name] = seconds_per_target(loss, method, arguments.steps) * total
        print(f"  {name:20s} {results[name]:8.1f} s per epoch")
    print(f"  ratio {results['one row per prefix'] / results['whole windows']:.1f}x")


if __name__ == "__main__":
    main()
