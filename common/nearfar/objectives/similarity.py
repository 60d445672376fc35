r"""Similarities as plain dot products, so that one kernel serves them all.

A logit :math:`s_{ij} = \mathrm{sim}(q_i, k_j) / \tau_i + b_j` is written as the dot product of a row made
from q_i and a column made from k_j. Scale and bias are part of the vectors (a bias is one more coordinate), so
their gradients, a learnable temperature's included, come from ordinary autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Similarity: TypeAlias = Literal["cosine", "dot", "neg_sqdist"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)


def smooth_normalize(x: Tensor, eps: float = 1e-24, factor: float | Tensor = 1.0) -> Tensor:
    """Rows scaled to unit length; a zero row stays zero and its gradient stays bounded.

    Args:
        x: Shape ``(..., d)``.
        eps: Added to the squared length: only rows about as short as its root, 1e-12, are changed.
        factor: Length to give the rows instead of one, a number or shape ``(..., 1)``.
    """
    return x * (torch.rsqrt(x.square().sum(-1, keepdim=True) + eps) * factor)


@dataclass(frozen=True)
class Comparison:
    """Turns anchors and keys into the two operands of one dot product.

    Attributes:
        similarity: ``"cosine"``, ``"dot"``, or ``"neg_sqdist"`` for the negative squared distance.
        scale: 1 / temperature: a number, a scalar tensor or one value a row, ``(..., N, 1)``.
        biased: Whether keys bring a log-weight of their own.
        centre: What is subtracted from anchors and keys before squared distances, which do not change but are
            then differences of smaller numbers; shape ``(B, 1, d)``.
    """

    similarity: Similarity
    scale: float | Tensor
    biased: bool = False
    centre: Tensor | None = None

    def both(self, x: Tensor) -> Tensor | None:
        """One operand for both sides of a self-contrast, or ``None`` where the two sides differ.

        Args:
            x: Shape ``(..., N, d)``.

        Returns:
            Shape ``(..., N, d)``, such that its dot products with itself are the logits.
        """
        per_row = isinstance(self.scale, Tensor) and self.scale.dim() > 0
        if per_row or self.biased or self.similarity == "neg_sqdist":
            return None
        root = self.scale**0.5
        return smooth_normalize(x, factor=root) if self.similarity == "cosine" else x * root

    def anchors(self, q: Tensor) -> Tensor:
        """Left operand.

        Args:
            q: Shape ``(..., N, d)``.

        Returns:
            Shape ``(..., N, d')``, where d' counts the coordinates that carry biases.
        """
        if self.similarity == "cosine":
            columns = [smooth_normalize(q, factor=self.scale)]
        elif self.similarity == "dot":
            columns = [q * self.scale]
        else:
            q = self._centred(q)
            length = q.square().sum(-1, keepdim=True)
            ones = torch.ones_like(length)
            columns = [2 * self.scale * q, -self.scale * length, -self.scale * ones]
        if self.biased:
            columns.append(torch.ones_like(columns[0][..., :1]))
        return torch.cat(columns, -1) if len(columns) > 1 else columns[0]

    def keys(self, k: Tensor, log_weight: Tensor | None = None) -> Tensor:
        """Right operand.

        Args:
            k: Shape ``(..., M, d)``.
            log_weight: Added to the logits of a key, shape ``(..., M)``; ``None`` for zero.

        Returns:
            Shape ``(..., M, d')``.
        """
        if self.similarity == "cosine":
            columns = [smooth_normalize(k)]
        elif self.similarity == "dot":
            columns = [k]
        else:
            k = self._centred(k)
            length = k.square().sum(-1, keepdim=True)
            columns = [k, torch.ones_like(length), length]
        if self.biased:
            one = columns[0][..., :1]
            bias = torch.zeros_like(one) if log_weight is None else log_weight[..., None].expand_as(one)
            columns.append(bias)
        return torch.cat(columns, -1) if len(columns) > 1 else columns[0]

    def _centred(self, x: Tensor) -> Tensor:
        if self.centre is None:
            return x
        return x - (self.centre if x.dim() == 3 else self.centre[:, None])
