"""Closed-form layers of an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nearfar.errors import ConfigError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.relaxation import Slope
from nearfar.graph.ego.network import Given, MessageLayer, describe
from nearfar.graph.intervals import Norm

_ENGINE = "nearfar.graph.ego_bounds bounds such encoders, one node at a time, with auto_LiRPA"


def closed_form(encoder: nn.Module, activations: Sequence[Given] | None = None) -> tuple[TwoLayers, Norm]:
    """Weights and slopes of an encoder that the closed form covers, with gradients.

    Args:
        encoder: As of :func:`describe`.
        activations: As of :func:`describe`.

    Raises:
        ConfigError: If it does not; names the engine that does.
    """
    layers = describe(encoder, activations)
    for number, layer in enumerate(layers, 1):
        if layer.root_weight is not None or layer.mlp:
            raise ConfigError(
                f"encoder: layer {number} has a term of the node itself or an MLP, which the closed form does not cover; {_ENGINE}"
            )
    slopes = [_slope(number, layer) for number, layer in enumerate(layers, 1)]
    first, second = layers
    return (
        TwoLayers((first.weight, second.weight), (first.bias, second.bias), (slopes[0], slopes[1])),
        first.kind,
    )


def _slope(number: int, layer: MessageLayer) -> Slope:
    known = {"relu": 0.0, "identity": 1.0, "leaky_relu": layer.activation.slope}
    if layer.activation.name not in known:
        raise ConfigError(
            f"encoder: activation {layer.activation.name} of layer {number} is not piecewise linear, which the closed form "
            f"needs; {_ENGINE}"
        )
    return known[layer.activation.name]
