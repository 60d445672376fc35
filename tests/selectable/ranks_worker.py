"""One process of test_ranks: every objective on this process's rows; losses and gradients go to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nearfar.objectives.ranks import Ranks
from nearfar.selectable import OBJECTIVES
from nearfar.testing.view_batches import built, fields, step

ROWS, DIM = (7, 5), 8


def whole() -> dict[str, Tensor]:
    """All fields of the whole batch."""
    return fields(sum(ROWS), DIM)


def part(name: str, x: Tensor, rows: slice) -> Tensor:
    """The rows of one process."""
    return x[:, rows] if name == "more" else x[rows]


def computed(name: str, given: dict[str, Tensor], ranks: Ranks | None) -> dict[str, Any]:
    """Loss of a step that follows another one, so that queues and memories hold something, and its gradients."""
    objective = built(name, sum(ROWS), DIM)
    for seed in range(2):
        loss, rows = step(objective, given, seed, ranks)
    return {
        "loss": loss,
        "rows": rows,
        "own": {key: p.grad for key, p in objective.loss.named_parameters()},
        "state": dict(objective.loss.state_dict().items()),
    }


def main(folder: Path) -> None:
    """Compute all of them in this process of the group."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    ranks = Ranks.of(dist.group.WORLD, ROWS[rank], ROWS[rank], torch.device("cpu"))
    mine = {key: part(key, x, ranks.own_rows) for key, x in whole().items()}
    torch.save({name: computed(name, mine, ranks) for name in OBJECTIVES}, folder / f"{rank}.pt")
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the group


if __name__ == "__main__":
    main(Path(sys.argv[1]))
