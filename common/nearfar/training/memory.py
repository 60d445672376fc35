"""What to do when a step does not fit: the same loss in smaller pieces, and an answer when there are none left.

A smaller batch would be another loss (fewer negatives), so the batch is never touched. First the tiles of the
contrast shrink, then the encoder works in chunks (Gao et al., RepL4NLP 2021).
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class MemoryPlan:
    """How finely a step is cut.

    Attributes:
        edge: Largest tile of a contrast, rows and keys; ``None`` for what suits the device.
        chunks: Pieces in which the encoder sees the batch.
    """

    edge: int | None = None
    chunks: int = 1


LADDER = (
    MemoryPlan(),
    MemoryPlan(edge=384),
    MemoryPlan(edge=256),
    MemoryPlan(edge=256, chunks=4),
    MemoryPlan(edge=256, chunks=16),
)


def ladder(chunkable: bool) -> Sequence[MemoryPlan]:
    """The plans to try, one after the other.

    Args:
        chunkable: Whether the method can cut its batch (``StepContext.chunks``).
    """
    return LADDER if chunkable else [plan for plan in LADDER if plan.chunks == 1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out, on whatever device."""
    text = str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, (RuntimeError, OSError))
        and ("DefaultCPUAllocator" in text or "allocate memory" in text or "out of memory" in text)
    )


def consumer(error: BaseException) -> str:
    """Function of nearfar in which memory ran out, as ``module.function``."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = frame.filename.replace("\\", "/").rpartition("/nearfar/")
        if parts[1] and not parts[2].startswith("training/"):
            return f"nearfar.{parts[2].removesuffix('.py').replace('/', '.')}.{frame.name}"
    return "the backward pass"
