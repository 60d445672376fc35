"""One process of test_ranks: every objective on this process's rows; losses and gradients go to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nearfar.objectives.ranks import Ranks
from nearfar.selectable import OBJECTIVES
from nearfar.selectable.objective import SelectedObjective
from nearfar.selectable.view_batch import ViewBatch

ROWS, DIM = (7, 5), 8
TRAINED = ("first", "second", "more", "wrong")


def whole(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """All fields of the whole batch."""
    rng = torch.Generator().manual_seed(0)
    count = sum(ROWS)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=dtype)

    return {
        "first": drawn(count, DIM),
        "second": drawn(count, DIM),
        "more": drawn(2, count, DIM),
        "wrong": drawn(count, 2, DIM),
        "target_first": drawn(count, DIM),
        "target_second": drawn(count, DIM),
        "labels": torch.randint(3, (count,), generator=rng),
        "side": drawn(count, 4),
        "surface": drawn(count),
        "rows": torch.randperm(40, generator=rng)[:count],
    }


def part(name: str, x: Tensor, rows: slice) -> Tensor:
    """The rows of one process."""
    return x[:, rows] if name == "more" else x[rows]


def computed(name: str, fields: dict[str, Tensor], ranks: Ranks | None) -> dict[str, Any]:
    """Loss of a step that follows another one, and its gradients.

    Two steps, so that queues and memories hold something.
    """
    entry = OBJECTIVES[name]
    sizes: Any = {"dim": DIM, "num_classes": 3, "num_rows": 40}
    small = {"capacity": 12, "prototypes": 2, "neighbours": 1} if name == "beclr" else {}
    settings = entry.settings.model_validate(small | ({"groups": 4} if name == "whitened" else {}))
    objective = SelectedObjective(settings, sizes, 0, nn.Identity()).double()
    leaves = {key: fields[key].clone().requires_grad_() for key in TRAINED}
    for step in range(2):
        batch = ViewBatch(rng=torch.Generator().manual_seed(step), **{**fields, **leaves})
        objective.zero_grad()
        for leaf in leaves.values():
            leaf.grad = None
        loss = objective(batch, ranks)
        loss.backward()
        objective.after_step(nn.Identity())
    return {
        "loss": loss.detach(),
        "rows": {key: leaf.grad for key, leaf in leaves.items()},
        "own": {key: p.grad for key, p in objective.loss.named_parameters()},
        "state": dict(objective.loss.state_dict().items()),
    }


def main(folder: Path) -> None:
    """Compute all of them in this process of the group."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    ranks = Ranks.of(dist.group.WORLD, ROWS[rank], ROWS[rank], torch.device("cpu"))
    fields = {key: part(key, x, ranks.own_rows) for key, x in whole().items()}
    torch.save({name: computed(name, fields, ranks) for name in OBJECTIVES}, folder / f"{rank}.pt")
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may outlive the group


if __name__ == "__main__":
    main(Path(sys.argv[1]))
