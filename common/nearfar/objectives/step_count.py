"""How many steps a loss has seen, for losses that change with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StepCount(nn.Module):
    """To be inherited: a number that checkpoints keep, and that no device is waited for to read.

    Attributes:
        steps: How many; 0 at first, and counted by who inherits.

    Example:
        >>> early, late = StepCount(), StepCount()
        >>> late.steps += 3
        >>> _ = early.load_state_dict(late.state_dict())
        >>> early.steps
        3
    """

    steps: int = 0

    def get_extra_state(self) -> Tensor:
        """Number of steps, shape ``(1,)``, int64."""
        return torch.tensor([self.steps])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from what :meth:`get_extra_state` returned.

        Args:
            state: Shape ``(1,)``.
        """
        (self.steps,) = state.tolist()
