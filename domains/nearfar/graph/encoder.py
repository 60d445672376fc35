"""A 2-layer GCN of PyG's layers, in the form whose output can be bounded: one activation after both layers."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.optional import require
from nearfar.runtime import isolated_rng

Activation: TypeAlias = Literal["relu", "prelu", "leaky_relu", "identity"]
PRELU_START = 0.25


class GCNEncoder(nn.Module):
    """Two ``torch_geometric.nn.GCNConv`` (Kipf and Welling, ICLR 2017), as GRACE and POT use them.

    Args:
        num_features: Width of the node features.
        dim: Width of the embeddings; the hidden layer is twice as wide.
        activation: After both layers; ``prelu`` has one slope, shared by both and kept in [0, 1] by
            :meth:`clamp_slope`.
        negative_slope: Of ``leaky_relu``.
        generator: Source of the initial weights (Glorot uniform).

    Raises:
        MissingDependencyError: If PyG is not installed.
    """

    def __init__(
        self,
        num_features: int,
        dim: int = 128,
        *,
        activation: Activation = "relu",
        negative_slope: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "num_features": num_features,
            "dim": dim,
            "activation": activation,
            "negative_slope": negative_slope,
        }
        conv = require("torch_geometric.nn", "the graph encoder").GCNConv
        with isolated_rng():
            self.convs = nn.ModuleList([conv(num_features, 2 * dim), conv(2 * dim, dim)])
        layer: Any
        for layer in self.convs:
            nn.init.xavier_uniform_(layer.lin.weight, generator=generator)
        self.activation = _module(activation, negative_slope)

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.arguments["dim"])

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Embeddings of all nodes, as PyG computes them.

        Args:
            x: Node features, shape ``(n, d0)``.
            edge_index: Shape ``(2, E)``.
            edge_weight: Shape ``(E,)``.

        Returns:
            Shape ``(n, dim)``.
        """
        for layer in self.convs:
            x = self.activation(layer(x, edge_index, edge_weight))
        return x

    def layers(self) -> TwoLayers:
        """Its weights and slopes, with gradients."""
        first: Any
        second: Any
        first, second = self.convs
        slope = self._slope()
        weights = (first.lin.weight.T, second.lin.weight.T)
        return TwoLayers(weights, (first.bias, second.bias), (slope, slope))

    def _slope(self) -> float | Tensor:
        if isinstance(self.activation, nn.PReLU):
            return self.activation.weight.squeeze()
        if isinstance(self.activation, nn.LeakyReLU):
            return self.activation.negative_slope
        return 0.0 if isinstance(self.activation, nn.ReLU) else 1.0

    @torch.no_grad()
    def clamp_slope(self) -> None:
        """Put a learnt slope back into [0, 1], where the bounds hold."""
        if isinstance(self.activation, nn.PReLU):
            self.activation.weight.clamp_(0, 1)


def _module(activation: Activation, negative_slope: float) -> nn.Module:
    if activation == "prelu":
        return nn.PReLU(init=PRELU_START)
    if activation == "leaky_relu":
        return nn.LeakyReLU(negative_slope)
    return nn.ReLU() if activation == "relu" else nn.Identity()
