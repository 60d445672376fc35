"""From the text ``device=auto`` to a torch device."""

from __future__ import annotations

import torch

from nearfar.errors import ConfigError


def available_devices() -> list[str]:
    """Names that :func:`resolve_device` accepts on this machine, best first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device meant by ``name``; ``auto`` takes cuda, then mps, then cpu.

    Raises:
        ConfigError: If the name is unknown or the device is not there; lists those that are.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    available = available_devices()
    if name == "auto":
        return torch.device(available[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in available:
        raise ConfigError(f"device: '{name}' is not available here; choose auto, {', '.join(available)}")
    return torch.device(wanted)
