"""What a method is to the training loop: parameters, optimisers, and the updates of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig
from nearfar.runtime import Runtime, generator
from nearfar.training.optim import build_optimizer


@dataclass(frozen=True)
class StepContext:
    """Where the loop stands; the only source of random numbers inside a step.

    Attributes:
        seed: Of the run.
        step: Global step number.
        runtime: Device and processes.
        chunks: Pieces in which the encoder should see the batch; more than 1 once memory ran out, and only for
            methods that say they are ``chunkable``.
    """

    seed: int
    step: int
    runtime: Runtime
    chunks: int = 1

    def rng(self, name: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of stream ``name`` at this step: the same on every process and after a resume."""
        return generator(self.seed, name, self.step, *counters, device=device)


@dataclass(frozen=True)
class StepOutput:
    """A scalar to descend, and the detached scalars to log beside it.

    Attributes:
        loss: The scalar.
        terms: By name.
        descended: Whether ``compute`` has called ``backward()`` itself, chunk by chunk.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    descended: bool = False


@dataclass(frozen=True)
class Update:
    """One gradient step: which optimiser moves, and the loss it follows.

    While it runs, only the parameters of that optimiser require gradients; the loss may flow *through*
    the others, which are constants to it.

    Attributes:
        optimizer: Its name.
        compute: The loss of a batch.
        prefix: In front of the names of its terms in the log.
        follows: The parameters whose names begin with this descend the loss that is returned; others that the optimiser
            moves descend one of their own, whose gradient comes along.
    """

    optimizer: str
    compute: Callable[[Any, StepContext], StepOutput]
    prefix: str = ""
    follows: str | tuple[str, ...] = ""


class BatchSource(Protocol):
    """The training data as a pure function of the step number."""

    steps_per_epoch: int

    def batch(self, step: int) -> Any:
        """What is trained on at global step ``step``: nothing but seed and step decide it.

        In host memory; the loop sends it to the device. Called from other threads with ``loader_workers``.
        """


class Method(nn.Module, ABC):
    """Base of every trainable method.

    A plain method implements :meth:`step`. One that alternates (an encoder and its augmenter, say)
    names its optimisers in :meth:`optimizers` and lists who moves when in :meth:`updates`; the loop
    knows no other difference.

    Attributes:
        chunkable: Whether :meth:`step` honours ``ctx.chunks``.
        memory_settings: Settings to lower when a step does not fit, named in the error.
    """

    chunkable: ClassVar[bool] = False
    memory_settings: ClassVar[tuple[str, ...]] = ()

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name; by default one, called ``main``, over all parameters."""
        return {"main": build_optimizer(self.parameters(), config)}

    def learning_rate_factor(self, optimizer: str, step: int) -> float | None:  # noqa: ARG002 - some have their own
        """What an optimiser's peak rate is multiplied by at ``step``; ``None``: what ``optim.schedule`` says."""
        return None

    def updates(self, step: int) -> Sequence[Update]:  # noqa: ARG002 - alternating methods use it
        """The gradient steps made, in order, on the batch of ``step``; none for a method without training."""
        return (Update("main", self.step),)

    @abstractmethod
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        """Loss and terms of one batch."""

    def after_step(self, ctx: StepContext) -> None:
        """Called after the updates of a step: moving averages, queues. Keep such state in buffers.

        Buffers of floating point are those of the first process on all of them afterwards.
        """
