"""One process or many: the few collective operations a run needs.

Started by ``torchrun`` every process finds RANK, WORLD_SIZE and LOCAL_RANK in its environment and
joins the group; started plainly, all of this is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from nearfar.runtime.device import resolve_device

# The first process evaluates and saves while the others wait in a collective operation.
PATIENCE = timedelta(hours=2)

ValueT = TypeVar("ValueT")


def is_main_process() -> bool:
    """Whether this process is the only one, or the first of those torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Runtime:
    """Device of this process and its place among the others."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    deterministic: bool = False

    @classmethod
    def start(cls, device: str = "auto", *, deterministic: bool = False) -> Runtime:
        """Join the process group when launched by torchrun; pick this process's device.

        Args:
            device: As of :func:`resolve_device`.
            deterministic: On CUDA, take algorithms that repeat exactly, until :meth:`close`.

        Raises:
            ConfigError: If the device is not available.
        """
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        chosen = resolve_device(device)
        deterministic = deterministic and chosen.type == "cuda"
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if world_size == 1:
            return cls(chosen, deterministic=deterministic)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=PATIENCE)
        return cls(chosen, dist.get_rank(), world_size, deterministic)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the tracker."""
        return self.rank == 0

    @property
    def group(self) -> dist.ProcessGroup | None:
        """For ``contrast(group=...)``: all processes, ``None`` when this one is alone."""
        return dist.group.WORLD if self.world_size > 1 else None

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any process raised each flag; every process gets the same answer."""
        if self.world_size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes.tolist())

    def share(self, value: ValueT) -> ValueT:
        """What the first process has, on all of them."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0)
        return box[0]

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes.

        Args:
            values: Those of this process, shape ``(N, ...)``; overwritten.
        """
        if self.world_size > 1:
            dist.all_reduce(values)
            values = values / self.world_size
        return values

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient by its mean over the processes, in one message.

        Done by hand rather than by wrapping the module in DistributedDataParallel, because a method may
        alternate several optimisers over parts of its parameters within one step; a parameter without a
        gradient counts as zero, so that all processes send the same number of values.
        """
        if self.world_size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = self.mean(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of the first process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0)

    def close(self) -> None:
        """Leave the process group, and the deterministic mode."""
        if self.deterministic:
            torch.use_deterministic_algorithms(False)
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()
