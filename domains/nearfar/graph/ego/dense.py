"""The encoder around one node as a network whose input is the adjacency, in the form auto_LiRPA 0.3 can bound.

What that form takes, found by trial: constants are 2-D; ``A @ (H @ W)``, not ``(A @ H) @ W``; the second layer reads
its one row as a slice, so that only one output is bounded; a bias stands between any product and a ReLU, else CROWN
fails on an index. The first product is linear in the input, and its bounds come from interval arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nearfar.graph.bounds.relaxation import slope_value
from nearfar.graph.layers import Activation, Dense, MessageLayer


class EgoNetwork(nn.Module):
    """Score of one node as a function of the adjacency, shape ``(1, k, m)``: k hidden nodes, the node itself first.

    Args:
        layers: Both layers of the encoder.
        x: Features of the m nodes, float64, shape ``(m, d0)``.
        num_hidden: k; the first of the m nodes are the hidden ones.
        w: Contrast vector of the node, shape ``(d2,)``.
    """

    def __init__(self, layers: Sequence[MessageLayer], x: Tensor, num_hidden: int, w: Tensor) -> None:
        super().__init__()
        first, second = layers
        self.num_hidden = num_hidden
        own = _bias(first, x).expand(num_hidden, -1)
        if first.root_weight is not None:
            own = own + x[:num_hidden] @ first.root_weight.to(x)
        self.messages, self.own = _constant(x @ first.weight.to(x)), _constant(own)
        self.first = _Steps((*first.mlp, first.activation), x)
        self.weight, self.bias = _constant(second.weight.to(x)), _constant(_bias(second, x))
        self.root = None if second.root_weight is None else _constant(second.root_weight.to(x))
        self.second = _Steps((*second.mlp, second.activation), x)
        self.w = _constant(w.to(x)[None])

    def embed(self, adjacency: Tensor) -> Tensor:
        """Embedding of the node.

        Args:
            adjacency: Shape ``(1, k, m)``.

        Returns:
            Shape ``(1, 1, d2)``.
        """
        hidden = self.first(adjacency @ self.messages + self.own)
        heard = adjacency[:, :1, : self.num_hidden] @ (hidden @ self.weight)
        if self.root is not None:
            heard = heard + hidden[:, :1] @ self.root
        embedding: Tensor = self.second(heard + self.bias)
        return embedding

    def forward(self, adjacency: Tensor) -> Tensor:
        """Score of the node.

        Args:
            adjacency: Shape ``(1, k, m)``.

        Returns:
            Shape ``(1, 1)``.
        """
        return (self.embed(adjacency) * self.w).sum(2)


class _Steps(nn.Module):
    def __init__(self, steps: Sequence[Activation | Dense], like: Tensor) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            _Linear(step, like) if isinstance(step, Dense) else _module(step, like) for step in steps
        )

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class _Linear(nn.Module):
    def __init__(self, dense: Dense, like: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = _constant(dense.weight.to(like)), _constant(_bias(dense, like))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class _ELU(nn.Module):
    """Of ReLU and exp, since auto_LiRPA has no ELU; the bounds hold, CROWN's are looser than those of one line."""

    def __init__(self, alpha: float, like: Tensor) -> None:
        super().__init__()
        self.alpha = _constant(like.new_full((1, 1), alpha))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + (torch.exp(-torch.relu(-x)) - 1) * self.alpha


def _module(activation: Activation, like: Tensor) -> nn.Module:
    if activation.name == "elu":
        return _ELU(slope_value(activation.slope), like)
    if activation.name == "leaky_relu":
        return nn.LeakyReLU(slope_value(activation.slope))
    plain: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    return plain.get(activation.name, nn.Identity)()


def _bias(layer: MessageLayer | Dense, like: Tensor) -> Tensor:
    width = layer.weight.shape[1]
    return like.new_zeros(1, width) if layer.bias is None else layer.bias.to(like)[None]


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
