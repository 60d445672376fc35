"""Memory promised by a method or a loss, tested by what it allocates rather than by a clock or by the machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class LargestTensor(TorchDispatchMode):
    """Remembers how much the largest tensor holds that any operation inside gave back, in backward passes too.

    A view counts as all of the memory it looks into, sparse tensors do not count.

    Attributes:
        numbers: Elements of that tensor; 0 before the first operation.

    Example:
        >>> x = torch.ones(30, 1)
        >>> with LargestTensor() as largest:
        ...     total = (x @ x.mT).sum()
        >>> largest.numbers
        900
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor) and x.layout == torch.strided:
                self.numbers = max(self.numbers, x.untyped_storage().nbytes() // x.element_size())
        return result
