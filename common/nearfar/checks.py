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
        raise ValueError(f"{name}: floating point {shape} expected, got {_kind(x)}")
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


def check_matrix(
    name: str,
    x: Tensor,
    like: Tensor | None = None,
    *,
    shape: str = "(N, d)",
    min_rows: int = 1,
    num_rows: int | None = None,
) -> None:
    """Raise ValueError unless ``x`` is one floating point matrix of finite numbers.

    Args:
        name: What to call it.
        x: The argument; wanted of shape ``(N, d)``.
        like: Another argument with the same d, dtype and device, ``(..., d)``.
        shape: How to describe the wanted shape.
        min_rows: Fewest rows allowed.
        num_rows: Rows wanted; ``None`` for any number.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> check_matrix("side", torch.ones(3, 2), shape="(N, p)", num_rows=4)
        Traceback (most recent call last):
        ValueError: side: (4, p) expected, got shape (3, 2)
    """
    check_features(name, x, like, shape)
    rows, _, features = shape.strip("()").partition(", ")
    if num_rows is not None and (x.dim() != 2 or len(x) != num_rows):
        raise ValueError(f"{name}: ({num_rows}, {features}) expected, got shape {tuple(x.shape)}")
    if x.dim() != 2 or len(x) < min_rows:
        raise ValueError(
            f"{name}: {shape} with {rows} at least {min_rows} expected, got shape {tuple(x.shape)}"
        )


def check_tensor(name: str, x: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise ValueError unless ``x`` is a tensor of this shape and dtype.

    Args:
        name: What to call it.
        x: The argument.
        shape: Wanted.
        dtype: Wanted.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> check_tensor("target", torch.ones(3), (3,), torch.bool)
        Traceback (most recent call last):
        ValueError: target: bool of shape (3,) expected, got torch.float32 of shape (3,)
    """
    if not isinstance(x, Tensor) or x.dtype != dtype or x.shape != shape:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(f"{name}: {kind} of shape {tuple(shape)} expected, got {_kind(x)}")


def check_ids(
    name: str, ids: Tensor, num_rows: int, *, lowest: int | None = None, below: int | None = None
) -> None:
    """Raise ValueError unless there is an int64 number for every row; values are looked at on the CPU only.

    Args:
        name: What to call it.
        ids: The argument; wanted of shape ``(N,)``.
        num_rows: N.
        lowest: Smallest value allowed; ``None`` for any.
        below: What values must stay below; ``None`` for any.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> check_ids("labels", torch.tensor([0, 3]), 2, below=3)
        Traceback (most recent call last):
        ValueError: labels: integers below 3 expected, got 0 to 3
    """
    check_tensor(name, ids, (num_rows,), torch.int64)
    if ids.device.type != "cpu" or not num_rows:
        return
    smallest, largest = int(ids.min()), int(ids.max())
    if (lowest is not None and smallest < lowest) or (below is not None and largest >= below):
        wanted = f"integers below {below}" if lowest is None else f"integers of at least {lowest}"
        if lowest is not None and below is not None:
            wanted = f"{lowest} to {below - 1}"
        raise ValueError(f"{name}: {wanted} expected, got {smallest} to {largest}")


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
        raise ValueError(
            f"{name}: floating point of shape {' or '.join(map(str, shapes))} expected, got {_kind(x)}"
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


def check_counts(**counts: int) -> None:
    """Raise ValueError unless all are at least one.

    Args:
        **counts: Numbers by the name of their argument.

    Raises:
        ValueError: If one is zero or negative.

    Example:
        >>> check_counts(heads=3, head_dim=0)
        Traceback (most recent call last):
        ValueError: head_dim: at least 1 expected, got 0
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: at least 1 expected, got {count}")


def check_shares(*, below_one: bool = False, **shares: float) -> None:
    """Raise ValueError unless all are numbers from 0 to 1.

    Args:
        below_one: Whether 1 itself is refused.
        **shares: Numbers by the name of their argument.

    Raises:
        ValueError: If one is out of range or not a number.

    Example:
        >>> check_shares(alpha=1.0)
        >>> check_shares(below_one=True, momentum=1.0)
        Traceback (most recent call last):
        ValueError: momentum: a number in [0, 1) expected, got 1.0
    """
    for name, share in shares.items():
        if not 0 <= share <= 1 or (below_one and share == 1):
            raise ValueError(f"{name}: a number in [0, 1{')' if below_one else ']'} expected, got {share}")


def _kind(x: object) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
