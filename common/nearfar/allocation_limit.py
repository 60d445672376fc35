"""A model is built from sizes that a file names: no more memory than the weights beside it are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from nearfar.errors import DataError

_MAKING = frozenset(
    {
        *(torch.arange, torch.empty, torch.eye, torch.full, torch.linspace),
        *(torch.ones, torch.rand, torch.randn, torch.tensor, torch.zeros),
    }
)
# Of buffers that are not saved, such as masks and constants.
_SPARE_ELEMENTS = 1 << 20
_SPARE_TENSORS = 1 << 10


class AllocationLimit(TorchFunctionMode):
    """Scope in which layers are made that ``tensors`` are then loaded into; larger ones are refused, not made.

    Twice as many elements as there are in ``tensors``, and a million, may be asked for in it, and eight times as many
    tensors, and a thousand.

    Args:
        tensors: What the file holds.
        what: Names the sizes, for the message.

    Raises:
        DataError: Inside, before a tensor is made with which there would be more.

    Example:
        >>> with AllocationLimit({"weight": torch.zeros(3, 2)}, "m.json"):  # doctest: +ELLIPSIS
        ...     torch.nn.Linear(10**9, 10)
        Traceback (most recent call last):
        nearfar.errors.DataError: m.json names sizes of 10,000,000,000 elements, of weights that have 6; the file is ...
    """

    def __init__(self, tensors: Mapping[str, Tensor], what: str) -> None:
        super().__init__()
        self._saved, self._what = sum(tensor.numel() for tensor in tensors.values()), what
        self._most_tensors = 8 * len(tensors) + _SPARE_TENSORS
        self._elements = self._tensors = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what would be made, then make it."""
        kwargs = kwargs or {}
        if func in _MAKING:
            there = {name: value for name, value in kwargs.items() if name != "generator"}
            self._elements += func(*args, **there | {"device": "meta"}).numel()
            self._tensors += 1
            if self._elements > 2 * self._saved + _SPARE_ELEMENTS or self._tensors > self._most_tensors:
                raise DataError(
                    f"{self._what} names sizes of {self._elements:,} elements, of weights that have {self._saved:,}; "
                    "the file is damaged, or another model's"
                )
        return func(*args, **kwargs)
