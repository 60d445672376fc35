"""Strengths of augmentations: one number for the batch, or one for every sample of it."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Strength: TypeAlias = float | Tensor


def check_strength(name: str, value: Strength, low: float = 0.0, high: float = 1.0) -> None:
    """Refuse a strength outside [low, high].

    Args:
        name: Name of the argument, for the message.
        value: Number, or shape ``(B,)``; the values of a tensor are read once, here.
        low: Smallest value allowed.
        high: Largest value allowed.

    Raises:
        ValueError: If the shape or a value is not as expected.

    Example:
        >>> check_strength("ratio", 1.5)
        Traceback (most recent call last):
        ValueError: ratio: 0.0 to 1.0 expected, got 1.5
    """
    if not isinstance(value, Tensor):
        if not low <= value <= high:
            raise ValueError(f"{name}: {low} to {high} expected, got {value}")
    elif value.dim() != 1:
        raise ValueError(f"{name}: a number or shape (B,) expected, got shape {tuple(value.shape)}")
    elif not bool(((value >= low) & (value <= high)).all()):
        raise ValueError(f"{name}: {low} to {high} expected, got {value.tolist()}")


def per_sample(name: str, value: Strength, like: Tensor, num_dims: int) -> Strength:
    """A strength that broadcasts over a batch: shape ``(B, 1, ...)``, or the number as it is.

    Args:
        name: Name of the argument, for the message.
        value: Number, or shape ``(B,)``.
        like: Batch, shape ``(B, ...)``; gives the device, and the dtype if it is floating point.
        num_dims: Dimensions of the result.

    Raises:
        ValueError: If the strengths are not one for every sample.

    Example:
        >>> import torch
        >>> per_sample("std", torch.tensor([0.1, 0.2]), torch.zeros(2, 5), 3).shape
        torch.Size([2, 1, 1])
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape != like.shape[:1]:
        raise ValueError(f"{name}: one value for each of {like.shape[0]} samples expected, got {len(value)}")
    moved = value.to(like.device, like.dtype if like.is_floating_point() else value.dtype)
    return moved.reshape(-1, *[1] * (num_dims - 1))
