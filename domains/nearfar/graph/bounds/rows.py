"""Row-wise arithmetic in blocks of rows, where no gradient is wanted: temporaries stay in the cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_NUMBERS = 2**18


def by_rows(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
    """``function(*inputs)``, where a row of its results depends on that row of the inputs only.

    Args:
        function: From some rows of every input to those of every result.
        inputs: Shape ``(n, ...)`` each.

    Example:
        >>> by_rows(lambda a, b: (a + b, a.sum(1)), torch.ones(3, 2), torch.ones(3, 2))[1].tolist()
        [2.0, 2.0, 2.0]
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    num_rows = len(inputs[0])
    step = max(1, _NUMBERS // max(1, inputs[0].shape[1]))
    if wanted or num_rows <= step or inputs[0].is_cuda:
        return function(*inputs)
    outputs: tuple[Tensor, ...] = ()
    for begin in range(0, num_rows, step):
        part = slice(begin, begin + step)
        results = function(*(x[part] for x in inputs))
        if not outputs:
            outputs = tuple(r.new_empty(num_rows, *r.shape[1:]) for r in results)
        for output, result in zip(outputs, results, strict=True):
            output[part] = result
    return outputs
