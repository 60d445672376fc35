"""Features of rows changed a little, several times: what a classifier of frozen features is trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.adapters import Batch, Inputs, representations
from nearfar.runtime import generator, to_device


def weak_copies(encoder: nn.Module, inputs: Inputs, copies: int, seed: int = 0) -> Tensor:
    """Frozen features of weakly changed rows.

    The released code of SBCL changes every image anew in each of 200 passes over frozen features; a classifier that
    takes one of some copies in turn needs as many passes through the encoder as there are copies, not 200.

    Args:
        encoder: In evaluation mode while this runs, its weights and statistics untouched.
        inputs: The rows.
        copies: How many; 0 takes rows as they are.
        seed: Of the changes.

    Returns:
        Shape ``(copies, n, m)``, or ``(n, m)`` without copies.
    """
    if copies == 0:
        return representations(encoder, inputs)
    return torch.stack([representations(encoder, _Changed(inputs, seed, copy)) for copy in range(copies)])


class _Changed(Inputs):
    """Rows after the weak changes of one copy; the batch a row is in decides its change."""

    def __init__(self, inputs: Inputs, seed: int, copy: int) -> None:
        self.inputs, self.key, self.batch_size = inputs, (seed, copy), inputs.batch_size

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: Tensor) -> Batch:
        rng = generator(self.key[0], "weak_copies", self.key[1], int(index[0]))
        return self.inputs.weak(to_device(self.inputs.rows(index), torch.device("cpu")), rng)
