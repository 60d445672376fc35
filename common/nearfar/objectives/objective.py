"""What every objective module is: hyper-parameters given once, tensors given each time."""

from __future__ import annotations

from typing import Any

from torch import nn


class Objective(nn.Module):
    """Keeps the hyper-parameters of a loss, shows them, and hands them to the tracker.

    Args:
        **config: Hyper-parameters by name, plain values.

    Example:
        >>> Objective(temperature=0.1)
        Objective(temperature=0.1)
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self._config = config

    @property
    def config(self) -> dict[str, Any]:
        """The hyper-parameters, a new dict each time."""
        return dict(self._config)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return ", ".join(f"{name}={value!r}" for name, value in self._config.items())
