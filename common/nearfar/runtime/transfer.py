"""Batches from host memory to the device, whatever they are made of."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor


def to_device(batch: Any, device: torch.device) -> Any:
    """The same structure with every tensor on ``device``.

    On CUDA, tensors go through page-locked memory, so that the copy overlaps with what the device is doing.

    Args:
        batch: Tensor; tuple, list, mapping or dataclass of such; an object with ``.to(device)`` (PyG's data);
            anything else stays as it is.
        device: Where to.

    Example:
        >>> to_device({"x": torch.zeros(2), "name": "a"}, torch.device("meta"))["x"].device
        device(type='meta')
    """
    if isinstance(batch, Tensor):
        if device.type == "cuda" and batch.device.type == "cpu":
            return batch.pin_memory().to(device, non_blocking=True)
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(part, device) for part in batch)
    if isinstance(batch, dict):
        return {key: to_device(part, device) for key, part in batch.items()}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        names = [part.name for part in dataclasses.fields(batch)]
        return dataclasses.replace(batch, **{name: to_device(getattr(batch, name), device) for name in names})
    return batch.to(device) if hasattr(batch, "to") else batch
