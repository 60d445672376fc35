"""Arguments of objectives and searches, checked before anything is computed; messages name the argument."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_features(name: str, x: object, like: Tensor | None = None, shape: str = "(..., N, d)") -> None:
    """Raise ValueError unless ``x`` is a floating point matrix (or stack of them) of finite numbers.

    Values are looked at on the CPU only: on a GPU the answer would have to be waited for in every step;
    there a NaN shows in the loss.

    Args:
        name: What to call it.
        x: The argument; wanted of shape ``(..., N, d)``.
        like: Another argument with the same d, dtype and device, ``(..., d)``.
        shape: How to describe the wanted shape.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(x, Tensor) or x.dim() < 2 or not x.is_floating_point():
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
        raise ValueError(f"{name}: floating point {shape} expected, got {got}")
    if x.shape[-1] == 0:
        raise ValueError(f"{name}: at least one feature expected, got shape {tuple(x.shape)}")
    if like is not None and (x.shape[-1], x.dtype, x.device) != (like.shape[-1], like.dtype, like.device):
        raise ValueError(
            f"{name}: {like.dtype} with {like.shape[-1]} features on {like.device} expected, got {x.dtype} of "
            f"shape {tuple(x.shape)} on {x.device}"
        )
    # A finite sum proves finite terms and needs no second tensor.
    if x.device.type == "cpu" and not x.sum().isfinite() and not (finite := x.isfinite()).all():
        where = tuple((~finite).nonzero()[0].tolist())
        raise ValueError(f"{name}: finite numbers expected, got {x[where].item()} at {where}")


def check_temperature(temperature: object, rows: torch.Size | None = None) -> None:
    """Raise ValueError unless it is a positive number, or a tensor of one or of one a row.

    Args:
        temperature: A number or a tensor, scalar or ``(N,)`` or ``(..., N)``.
        rows: Shape of q without its features, ``(..., N)``; ``None`` where only one value makes sense.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(temperature, Tensor):
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not (number and 0 < temperature < float("inf")):  # type: ignore[operator]
            raise ValueError(f"temperature: a positive number expected, got {temperature!r}")
        return
    shapes = [] if rows is None else [tuple(rows[-1:]), tuple(rows)]
    if temperature.numel() != 1 and temperature.shape not in shapes:
        expected = " or ".join(["one value", *map(str, dict.fromkeys(shapes))])
        raise ValueError(f"temperature: {expected} expected, got shape {tuple(temperature.shape)}")
    if temperature.device.type == "cpu":
        right = (temperature > 0) & temperature.isfinite()
        if not bool(right.all()):
            raise ValueError(
                f"temperature: finite positive values expected, got {temperature[~right].flatten()[0].item()}"
            )


def check_vector(name: str, x: object, lead: torch.Size, size: int, *, lowest: float) -> None:
    """Raise ValueError unless ``x`` holds one finite number a row, not below ``lowest``.

    Args:
        name: What to call it.
        x: The argument; wanted of shape ``(N,)`` or ``(..., N)``.
        lead: Leading dimensions of q.
        size: N.
        lowest: Smallest value allowed.

    Raises:
        ValueError: If it is anything else.
    """
    shapes = dict.fromkeys([(size,), (*lead, size)])
    if not isinstance(x, Tensor) or not x.is_floating_point() or tuple(x.shape) not in shapes:
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
        raise ValueError(
            f"{name}: floating point of shape {' or '.join(map(str, shapes))} expected, got {got}"
        )
    if x.device.type == "cpu" and not bool((x.isfinite() & (x >= lowest)).all()):
        bound = "finite values" if lowest == float("-inf") else f"finite values of {lowest:g} or more"
        raise ValueError(f"{name}: {bound} expected, got {x.min().item()} to {x.max().item()}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of the choices.

    Args:
        name: What to call it.
        value: The argument.
        choices: What it may be.

    Raises:
        ValueError: If it is anything else.
    """
    if value not in choices:
        raise ValueError(f"{name}: {' or '.join(map(repr, choices))} expected, got {value!r}")


def check_weights(**weights: float) -> None:
    """Raise ValueError unless all are finite and at least zero.

    Args:
        **weights: Numbers by the name of their argument.

    Raises:
        ValueError: If one is negative, infinite or not a number.

    Example:
        >>> check_weights(variance_weight=25.0, covariance_weight=0.0)
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name}: a finite number of at least 0 expected, got {weight}")


def check_positive(**numbers: float) -> None:
    """Raise ValueError unless all are finite and above zero.

    Args:
        **numbers: Numbers by the name of their argument.

    Raises:
        ValueError: If one is zero, negative, infinite or not a number.

    Example:
        >>> check_positive(eps=1e-5)
    """
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name}: a finite positive number expected, got {number}")
