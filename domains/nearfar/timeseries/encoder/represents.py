"""What evaluation asks of an encoder, ours or another."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Represents(Protocol):
    """Anything that represents the steps of a series.

    Attributes:
        width: Length of the representation of a step.
    """

    width: int

    def represent(self, x: Tensor) -> Tensor:
        """Represent every step.

        Args:
            x: Series, shape ``(B, T, F)``.

        Returns:
            Shape ``(B, T, width)``.
        """
