"""What an encoder makes of rows of data: batch by batch, without gradient, in evaluation mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nearfar.adapters.inputs import Inputs
from nearfar.errors import DataError, first_line
from nearfar.runtime import evaluating, to_device


def device_of(module: nn.Module) -> torch.device:
    """Where a module computes: the device of its first parameter or buffer, the CPU if it has neither.

    Args:
        module: Any.
    """
    tensors = (*module.parameters(), *module.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


@torch.no_grad()
def representations(
    encoder: nn.Module, inputs: Inputs, index: Tensor | None = None, *, batch_size: int | None = None
) -> Tensor:
    """Representations of rows as they are, on the device the encoder is on.

    Args:
        encoder: Turns a batch into shape ``(B, m)``; its mode is the same afterwards.
        inputs: The data.
        index: Numbers of the rows wanted, int64, shape ``(n,)``; ``None`` is all.
        batch_size: Rows at a time; ``None`` is ``inputs.batch_size``.

    Returns:
        Shape ``(n, m)``, on the CPU.

    Raises:
        DataError: If a representation is not finite, none is asked for, or the encoder is made for other rows.
        ValueError: If the encoder does not make one vector a row, or ``batch_size`` is below 1.

    Example:
        >>> from nearfar.adapters import FeatureInputs
        >>> representations(nn.Identity(), FeatureInputs([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1])).tolist()
        [[3.0, 4.0]]
    """
    size = inputs.batch_size if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size: at least 1 expected, got {size}")
    wanted = torch.arange(len(inputs)) if index is None else index.cpu()
    if not len(wanted):
        raise DataError("inputs: no row to represent; at least one is needed")
    device, found = device_of(encoder), []
    with evaluating(encoder):
        for rows in wanted.split(size):
            batch = in_precision_of(encoder, to_device(inputs.rows(rows), device))
            try:
                z = encoder(batch)
            except RuntimeError as error:
                # How torch says that a layer is of another width.
                if "shape" not in str(error) and "size" not in str(error):
                    raise
                form = f" of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else ""
                raise DataError(
                    f"encoder: {type(encoder).__name__} cannot take a batch{form}: {first_line(error)}; build it for "
                    "these rows"
                ) from error
            if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != len(rows):
                got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
                raise ValueError(
                    f"encoder: {type(encoder).__name__} has to make shape ({len(rows)}, m) of {len(rows)} rows, "
                    f"got {got}; wrap it (see nearfar.adapters)"
                )
            z = z.cpu()
            finite = z.isfinite().all(1)
            if not bool(finite.all()):
                row = int(rows[int((~finite).int().argmax())])
                raise DataError(
                    f"representations: row {row} is not finite; look at this row, and at whether the encoder diverged"
                )
            found.append(z)
    return torch.cat(found)


def width_of(encoder: nn.Module, inputs: Inputs) -> int:
    """Numbers in a representation: ``encoder.dim``, or what a first row shows.

    Args:
        encoder: Turns a batch into shape ``(B, m)``.
        inputs: The data.
    """
    known: int | None = getattr(encoder, "dim", None)
    return known or representations(encoder, inputs, torch.zeros(1, dtype=torch.int64)).shape[1]


def in_precision_of(encoder: nn.Module, batch: Any) -> Any:
    """A tensor of numbers in the precision of the weights; anything else as it is.

    Args:
        encoder: It has the weights; without any the batch stays.
        batch: Shape ``(B, ...)``, or anything that is no tensor.
    """
    if not isinstance(batch, Tensor) or not batch.is_floating_point():
        return batch
    weights = (p.dtype for p in encoder.parameters() if p.is_floating_point())
    return batch.to(next(weights, batch.dtype))
