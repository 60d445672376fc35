"""A batch on its way through an operation: which steps of it may be touched, and where draws come from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment import draws
from nearfar.augment.series.view import check_series
from nearfar.augment.strength import Strength, per_sample


@dataclass(frozen=True, eq=False)
class Batch:
    """Series with the valid steps of every row; operations count steps from the first valid one.

    Args:
        x: Series, shape ``(B, T, F)``.
        step: Position counted from the first valid step, shape ``(B, T)``, int64.
        first: First valid step, shape ``(B, 1)``, int64.
        length: Number of valid steps, 1 for a row without any, shape ``(B, 1)``, int64.
        valid: The mask ``(B, T)``, ``None`` if all steps are valid.
        generator: Source of every draw.
    """

    x: Tensor
    step: Tensor
    first: Tensor
    length: Tensor
    valid: Tensor | None
    generator: torch.Generator

    @classmethod
    def of(cls, x: Tensor, generator: torch.Generator, valid: Tensor | None = None) -> Batch:
        """Find the windows, one contiguous run of valid steps a row.

        Whether the run is contiguous is looked at only on the CPU, where it costs no synchronisation.

        Args:
            x: Series, shape ``(B, T, F)``.
            generator: Source of every draw.
            valid: Mask, shape ``(B, T)``, bool, or ``None``.

        Raises:
            ValueError: If ``x`` or ``valid`` is not of that form.

        Example:
            >>> valid = torch.tensor([[False, True, True]])
            >>> batch = Batch.of(torch.zeros(1, 3, 1), torch.Generator(), valid)
            >>> batch.step.tolist(), batch.first.item(), batch.length.item()
            ([[-1, 0, 1]], 1, 2)
        """
        check_series(x)
        shape = x.shape[:2]
        position = torch.arange(shape[1], device=x.device).expand(shape)
        if valid is None:
            first = position.new_zeros(shape[0], 1)
            return cls(x, position, first, torch.full_like(first, shape[1]), None, generator)
        if valid.dtype != torch.bool or valid.shape != shape or valid.device != x.device:
            raise ValueError(
                f"valid: bool of shape {tuple(shape)} on {x.device} expected, "
                f"got {valid.dtype} of {tuple(valid.shape)} on {valid.device}"
            )
        num_runs = (valid[:, 1:] & ~valid[:, :-1]).sum(1) + valid[:, 0]
        if valid.device.type == "cpu" and bool((num_runs > 1).any()):
            raise ValueError("valid: one run of valid steps a row expected, got a row with a gap")
        first = valid.int().argmax(1, keepdim=True)
        return cls(x, position - first, first, valid.sum(1, keepdim=True).clamp(min=1), valid, generator)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers uniform on [0, 1) for every sample, shape ``(B, *shape)``.

        Args:
            *shape: Shape for one sample.
        """
        return draws.uniform((len(self.x), *shape), self.x, self.generator)

    def normal(self, *shape: int, mean: float, std: Strength) -> Tensor:
        """Normal numbers for every sample, shape ``(B, *shape)``.

        Args:
            *shape: Shape for one sample, two numbers.
            mean: Mean.
            std: Standard deviation, a number or shape ``(B,)``.
        """
        noise = draws.normal((len(self.x), *shape), self.x, self.generator)
        scale = self.strength("std", std, 1 + len(shape))
        if isinstance(scale, Tensor):
            return noise * scale + mean
        return noise.mul_(scale).add_(mean)  # memory is what takes the time

    def integers(self, high: Tensor) -> Tensor:
        """Integers uniform on {0, ..., high - 1}.

        Args:
            high: At least 1, shape ``(B, 1)``, int64.
        """
        return draws.integers(high, self.generator)

    def strength(self, name: str, value: Strength, num_dims: int) -> Strength:
        """A strength that broadcasts over the batch, as :func:`nearfar.augment.strength.per_sample`.

        Args:
            name: Name of the strength, for messages.
            value: Number, or shape ``(B,)``.
            num_dims: Dimensions of the result.
        """
        return per_sample(name, value, self.x, num_dims)

    def size(self, name: str, ratio: Strength) -> Tensor:
        """``floor(ratio * length)`` steps, shape ``(B, 1)``, int64.

        A thousandth of a step is forgiven: 0.53 of 100 is 53 although the product of floats is less.

        Args:
            name: Name of the ratio, for messages.
            ratio: Share of the valid steps, a number or shape ``(B,)``.
        """
        return (per_sample(name, ratio, self.length, 2) * self.length + 1e-3).long()

    def window(self, size: Tensor) -> Tensor:
        """Steps inside a window that lies uniformly in the row, shape ``(B, T)``, bool.

        Args:
            size: Steps of the window, at most the length of the row, shape ``(B, 1)``, int64.
        """
        start = self.integers(self.length - size + 1)
        return (self.step >= start) & (self.step < start + size)

    def source(self, step: Tensor) -> Tensor:
        """Index map from steps counted within the row; never leaves the row.

        Args:
            step: Source of every step counted from the first valid one, shape ``(B, T)``.
        """
        return torch.minimum(step.clamp(min=0), self.length - 1) + self.first
