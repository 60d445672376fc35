"""One process or many: the few collective operations a run needs.

Started by ``torchrun`` every process finds RANK, WORLD_SIZE and LOCAL_RANK in its environment and
joins the group; started plainly, all of this is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from nearfar.runtime.device import resolve_device


@dataclass(frozen=True)
class Runtime:
    """Device of this process and its place among the others."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @classmethod
    def start(cls, device: str = "auto") -> Runtime:
        """Join the process group when launched by torchrun; pick this process's device.

        Raises:
            ConfigError: If the device is not available.
        """
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size == 1:
            return cls(resolve_device(device))
        chosen = resolve_device(device)
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(chosen, dist.get_rank(), world_size)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the tracker."""
        return self.rank == 0

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
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` with those of the first process."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def close(self) -> None:
        """Leave the process group."""
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()
