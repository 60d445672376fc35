"""One process of test_sbcl_loss: every form of the loss on this process's items; results go to a file."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from nearfar.longtail.sbcl.loss import SBCLKeys, SBCLLoss
from nearfar.objectives import OtherGroups, contrast
from nearfar.objectives.denominator import NotSame

SIZES, DIM = [7, 4], 5  # items of every process
FORMS = ("itself", "items", "keys", "dense", "contrast")
TAU = torch.tensor([0.3, 0.15, 0.5])


def evaluate(form: str, rank: int | None = None, group: ProcessGroup | None = None) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of a shared weight; ``rank=None`` has the whole batch."""
    rng, total = torch.Generator().manual_seed(0), sum(SIZES)
    views, fresh = torch.randn(2, total, DIM, generator=rng), torch.randn(total, DIM, generator=rng)
    labels = torch.randint(3, (total,), generator=rng)
    subclasses = labels * 2 + torch.randint(2, (total,), generator=rng)
    first = sum(SIZES[:rank]) if rank is not None else 0
    mine = torch.arange(first, first + (total if rank is None else SIZES[rank]))
    weight = torch.eye(DIM).requires_grad_()
    z, y, sub = (views[:, mine] @ weight).flatten(0, 1), labels[mine].repeat(2), subclasses[mine].repeat(2)
    keys = SBCLKeys(fresh[mine] @ weight, labels[mine], subclasses[mine], mine) if form == "keys" else None
    # Without items every process numbers its own from its own first.
    items = mine.repeat(2) if form in ("items", "keys") else None
    if form == "contrast":  # positives of other groups in a half ring
        views_of = OtherGroups(y, sub, mine.repeat(2))
        loss = contrast(z, positives=views_of, denominator=NotSame(sub), temperature=0.3, group=group)
        loss.backward()
        assert weight.grad is not None
        return loss.detach(), weight.grad
    module = SBCLLoss(0.2, beta=0.7, group=group, backend="dense" if form == "dense" else "auto")
    loss = module(z, y, sub, items, class_temperatures=TAU, keys=keys)
    loss.backward()
    assert weight.grad is not None
    return loss.detach(), weight.grad


def main(rank: int, folder: Path) -> None:
    import nearfar.objectives.logsumexp as logsumexp
    import nearfar.objectives.tiles as tiles

    tiles.CPU_EDGE, logsumexp.DENSE_LOGITS = 3, 0
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = {}
    for form in FORMS:
        loss, gradient = evaluate(form, rank, dist.group.WORLD)
        dist.all_reduce(gradient)  # as DistributedDataParallel: the mean
        results[form] = loss, gradient / len(SIZES)
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(os.environ["RANK"]), Path.cwd())
