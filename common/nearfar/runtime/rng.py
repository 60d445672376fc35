"""Randomness as a pure function of (seed, stream name, counters).

No state is kept between steps, so a run resumed at step s draws what the uninterrupted run drew at
step s, with nothing about random numbers in its checkpoint. Streams in use: ``init`` (once),
``order`` (epoch), ``augment`` (step), ``dropout`` (step, update), ``rows`` (step).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """63 bits that belong to this stream at these counters.

    Example:
        >>> stream_seed(0, "order", 1) == stream_seed(0, "order", 1)
        True
        >>> stream_seed(0, "order", 1) == stream_seed(0, "order", 2)
        False
    """
    text = "/".join([str(seed), name, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, name: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator at the start of a stream."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, *counters))


def numpy_generator(seed: int, name: str, *counters: int) -> np.random.Generator:
    """A NumPy generator at the start of a stream (Philox, so equal on every platform)."""
    return np.random.Generator(np.random.Philox(stream_seed(seed, name, *counters)))


@contextmanager
def isolated_rng(device: torch.device | None = None) -> Iterator[None]:
    """Give the default generators (the CPU's, and that of ``device``) back as they were found.

    Dropout can only draw from the default generator of its device, and torch's layers draw their
    initial weights from it; the caller's own random numbers must not notice either.
    """
    device = device or torch.device("cpu")
    devices = [device] if device.type in ("cuda", "mps") else []
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Layers built inside draw their weights from a stream of their own; the caller's generator notices nothing.

    Args:
        seed: Of the default CPU generator, usually a :func:`stream_seed`.

    Example:
        >>> with initial_weights(44):
        ...     first = torch.nn.Linear(1, 1)
        >>> with initial_weights(44):
        ...     again = torch.nn.Linear(1, 1)
        >>> torch.equal(first.weight, again.weight)
        True
    """
    with isolated_rng():
        torch.default_generator.manual_seed(seed)
        yield
