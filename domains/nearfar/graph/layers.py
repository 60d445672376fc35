r"""What an encoder computes, read from its PyG modules: two layers of message passing over one adjacency.

.. math:: \mathrm{layer}(H) = \sigma\bigl(\mathrm{mlp}(\hat A\, H W + H R + b)\bigr)

with GCN (Kipf and Welling, ICLR 2017), GraphSAGE (Hamilton et al., NeurIPS 2017) and GIN (Xu et al., ICLR 2019) as
special cases: only the sum over neighbours depends on the edges, a node's own term HR does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError
from nearfar.graph.bounds.encoder import TwoLayers
from nearfar.graph.bounds.relaxation import Slope, check_slope
from nearfar.graph.intervals import Norm
from nearfar.optional import require

Name: TypeAlias = Literal["identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu"]
Given: TypeAlias = "nn.Module | Callable[[Tensor], Tensor] | None"

_FUNCTIONS: dict[Any, Name] = {
    torch.relu: "relu",
    nn.functional.relu: "relu",
    torch.tanh: "tanh",
    nn.functional.tanh: "tanh",
    torch.sigmoid: "sigmoid",
    nn.functional.sigmoid: "sigmoid",
}
_MODULES: dict[type[nn.Module], Name] = {
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.PReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.ELU: "elu",
}
_ENGINE = "nearfar.graph.ego_bounds bounds such encoders, one node at a time, with auto_LiRPA"
_LAYERS = "GCNConv, SAGEConv (mean or sum) and GINConv (of Linear and activations)"


@dataclass(frozen=True)
class Activation:
    """An activation auto_LiRPA can bound.

    Attributes:
        name: Which one.
        slope: Of ``leaky_relu`` for negative arguments, in [0, 1]; the ``alpha`` of ``elu``.
    """

    name: Name = "identity"
    slope: Slope = 0.0

    def __post_init__(self) -> None:
        """Refuse what has no bound.

        Raises:
            ConfigError: If the activation is unknown, or a leaky one is not between ReLU and the identity.
        """
        if self.name not in get_args(Name):
            raise ConfigError(f"activation: one of {', '.join(get_args(Name))} expected, got {self.name!r}")
        if self.name == "leaky_relu":
            check_slope("activation", self.slope)


@dataclass(frozen=True)
class Dense:
    """A linear map of every node by itself.

    Attributes:
        weight: Shape ``(d_in, d_out)``.
        bias: Shape ``(d_out,)``; ``None`` is zero.
    """

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class MessageLayer:
    """One layer: a normalised sum over neighbours, a node's own term, what follows.

    Attributes:
        kind: Normalisation: ``gcn`` (with self loops), ``mean`` or ``sum`` of the neighbours.
        weight: W, shape ``(d_in, d_out)``.
        bias: b, shape ``(d_out,)``; ``None`` is zero.
        root_weight: R, shape ``(d_in, d_out)``; ``None`` is zero.
        mlp: Applied next, in this order.
        activation: Applied last.
    """

    kind: Norm
    weight: Tensor
    bias: Tensor | None = None
    root_weight: Tensor | None = None
    mlp: tuple[Activation | Dense, ...] = ()
    activation: Activation = Activation()

    @property
    def width(self) -> int:
        """Number of outputs."""
        return next((step for step in reversed(self.mlp) if isinstance(step, Dense)), self).weight.shape[1]


def describe(encoder: nn.Module, activations: Sequence[Given] | None = None) -> list[MessageLayer]:
    """The layers of an encoder made of PyG modules, as they are in ``eval`` mode.

    Layers are those in ``encoder.convs``, else all message-passing modules in the order of their definition.

    Args:
        encoder: With two layers of GCNConv, SAGEConv or GINConv.
        activations: After each layer, a module, ``torch.relu``, ``torch.tanh``, ``torch.sigmoid`` or ``None``. By
            default ``encoder.act`` or ``encoder.activation`` after both, for PyG's own models after the first.

    Raises:
        MissingDependencyError: If PyG is not installed.
        ConfigError: If a part of the encoder is not supported, or dropout is active.
    """
    pyg = require("torch_geometric.nn", "reading an encoder's layers")
    _refuse(encoder)
    named = list(_message_passing(encoder, pyg))
    if len(named) != 2:
        raise ConfigError(
            f"encoder: 2 message-passing layers expected, {type(encoder).__name__} has {len(named)}"
        )
    after = _activations(encoder, pyg) if activations is None else tuple(activations)
    if len(after) != 2:
        raise ConfigError(f"activations: one for each of 2 layers expected, got {len(after)}")
    layers = [
        replace(_layer(name, conv, pyg), activation=_activation(f"the activation of {name}", given))
        for (name, conv), given in zip(named, after, strict=True)
    ]
    check_layers(layers)
    return layers


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
                f"encoder: layer {number} has a term of the node itself or an MLP, which the closed form "
                f"does not cover; {_ENGINE}"
            )
    slopes = [_slope(number, layer) for number, layer in enumerate(layers, 1)]
    first, second = layers
    return (
        TwoLayers((first.weight, second.weight), (first.bias, second.bias), (slopes[0], slopes[1])),
        first.kind,
    )


def check_layers(layers: Sequence[MessageLayer]) -> None:
    """Refuse what is not two layers that fit one another and share one adjacency.

    Args:
        layers: Of an encoder.

    Raises:
        ConfigError: Naming the layer.
    """
    if len(layers) != 2:
        raise ConfigError(f"encoder: 2 layers expected, got {len(layers)}")
    first, second = layers
    if first.kind != second.kind:
        raise ConfigError(
            f"encoder: layer 1 aggregates by {first.kind!r}, layer 2 by {second.kind!r}; one aggregation expected, "
            "since both layers hear the same perturbed adjacency"
        )
    for number, layer in enumerate(layers, 1):
        shapes = [tuple(layer.weight.shape)]
        if layer.root_weight is not None:
            shapes.append(tuple(layer.root_weight.shape))
        if len(set(shapes)) != 1 or layer.weight.dim() != 2:
            raise ConfigError(f"layer {number}: weights of one shape (d_in, d_out) expected, got {shapes}")
        _check_widths(number, layer)
    if first.width != len(second.weight):
        raise ConfigError(
            f"encoder: layer 1 has {first.width} outputs, layer 2 has {len(second.weight)} inputs; weights are "
            "(d_in, d_out)"
        )


def _check_widths(number: int, layer: MessageLayer) -> None:
    maps = [Dense(layer.weight, layer.bias), *(step for step in layer.mlp if isinstance(step, Dense))]
    for place, dense in enumerate(maps):
        if place and len(dense.weight) != maps[place - 1].weight.shape[1]:
            raise ConfigError(
                f"layer {number}: {maps[place - 1].weight.shape[1]} inputs expected by linear map {place + 1}, "
                f"got weight {tuple(dense.weight.shape)}; weights are (d_in, d_out)"
            )
        if dense.bias is not None and dense.bias.shape != dense.weight.shape[1:]:
            raise ConfigError(
                f"layer {number}: bias of shape {tuple(dense.weight.shape[1:])} expected, got {tuple(dense.bias.shape)}"
            )


def _refuse(encoder: nn.Module) -> None:
    """What changes the result beside layers and activations, and would be overlooked."""
    for name, module in encoder.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.Dropout) and module.training and module.p > 0:
            raise ConfigError(f"encoder: dropout {module.p} ({name}) is active; call encoder.eval()")
        if "Norm" in kind and not isinstance(module, nn.Identity):
            raise ConfigError(
                f"encoder: {name} is a {kind}, which is not supported; fold its scale and shift into the layer before"
            )
    if getattr(encoder, "jk_mode", None) is not None:
        raise ConfigError(
            f"encoder: jk={encoder.jk_mode!r} is not supported; the second layer's output is bounded"
        )


def _message_passing(encoder: nn.Module, pyg: Any) -> Iterator[tuple[str, nn.Module]]:
    convs = getattr(encoder, "convs", None)
    if isinstance(convs, nn.ModuleList):
        for number, conv in enumerate(convs):
            yield f"convs.{number}", conv
        return
    for name, module in encoder.named_modules():
        if isinstance(module, pyg.MessagePassing):
            yield name or type(module).__name__, module


def _activations(encoder: nn.Module, pyg: Any) -> tuple[Given, Given]:
    for name in ("act", "activation"):
        if hasattr(encoder, name):
            given = getattr(encoder, name)
            return given, None if isinstance(encoder, pyg.models.basic_gnn.BasicGNN) else given
    raise ConfigError(
        f"activations: {type(encoder).__name__} has neither .act nor .activation; pass activations=(first, second), "
        "None for a layer without"
    )


def _activation(place: str, given: Given) -> Activation:
    name: Name | None = "identity"
    if given is not None:
        name = _MODULES.get(type(given)) if isinstance(given, nn.Module) else _FUNCTIONS.get(given)
    if name is None:
        known = ", ".join(sorted({module.__name__ for module in _MODULES}))
        raise ConfigError(f"{place}: auto_LiRPA bounds {known}, not {given}")
    if isinstance(given, nn.PReLU):
        check_slope(place, given.weight.detach())  # several slopes are none
        return Activation(name, given.weight.squeeze())
    if isinstance(given, nn.LeakyReLU):
        return Activation(name, given.negative_slope)
    return Activation(name, given.alpha if isinstance(given, nn.ELU) else 0.0)


def _layer(name: str, conv: Any, pyg: Any) -> MessageLayer:
    # Subclasses may send other messages.
    kind = type(conv)
    if kind not in (pyg.GCNConv, pyg.SAGEConv, pyg.GINConv):
        raise ConfigError(f"encoder: {name} is a {kind.__name__}; supported are {_LAYERS}")
    if conv.flow != "source_to_target":
        raise ConfigError(
            f"encoder: {name} has flow={conv.flow!r}; budgets are of edges that point to a node"
        )
    if kind is pyg.GCNConv:
        _require(name, conv, add_self_loops=True, normalize=True, improved=False, cached=False, aggr="add")
        return MessageLayer("gcn", _weight(conv.lin), conv.bias)
    if conv.aggr not in ("mean", "add", "sum"):
        raise ConfigError(f"encoder: {name} aggregates by {conv.aggr!r}; 'mean', 'sum' or 'add' expected")
    norm: Norm = "mean" if conv.aggr == "mean" else "sum"
    if kind is pyg.SAGEConv:
        _require(name, conv, project=False, normalize=False)
        root = _weight(conv.lin_r) if conv.root_weight else None
        return MessageLayer(norm, _weight(conv.lin_l), conv.lin_l.bias, root)
    first, *rest = _steps(f"{name}.nn", conv.nn, pyg) or [Activation()]
    if not isinstance(first, Dense):
        raise ConfigError(f"encoder: {name}.nn must begin with a Linear, it begins with {first.name}")
    root = first.weight * (1 + conv.eps.detach())
    return MessageLayer(norm, first.weight, first.bias, root, tuple(rest))


def _require(name: str, conv: Any, **expected: Any) -> None:
    for field, value in expected.items():
        if getattr(conv, field) != value:
            raise ConfigError(
                f"encoder: {name} has {field}={getattr(conv, field)!r}, which is not supported; {field}={value!r} is"
            )


def _steps(place: str, module: nn.Module, pyg: Any) -> list[Activation | Dense]:
    if isinstance(module, pyg.MLP):
        if module.training and any(module.dropout):
            raise ConfigError(f"encoder: dropout of {place} is active; call encoder.eval()")
        steps: list[Activation | Dense] = []
        for number, linear in enumerate(module.lins):
            steps.append(_dense(linear))
            if number < len(module.norms):
                steps.append(_activation(f"{place}.act", module.act))
        return steps
    if isinstance(module, nn.Sequential):
        return [
            step for name, part in module.named_children() for step in _steps(f"{place}.{name}", part, pyg)
        ]
    if type(module) in (nn.Linear, pyg.Linear):
        return [_dense(module)]
    return [] if isinstance(module, nn.Dropout) else [_activation(place, module)]


def _dense(linear: Any) -> Dense:
    return Dense(_weight(linear), linear.bias)


def _weight(linear: Any) -> Tensor:
    weight: Tensor = linear.weight
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ConfigError("encoder: a layer has no weights yet; call the encoder once")
    return weight.T


def _slope(number: int, layer: MessageLayer) -> Slope:
    known: dict[str, Slope] = {"relu": 0.0, "identity": 1.0, "leaky_relu": layer.activation.slope}
    if layer.activation.name not in known:
        raise ConfigError(
            f"encoder: activation {layer.activation.name} of layer {number} is not piecewise linear, which the closed "
            f"form needs; {_ENGINE}"
        )
    return known[layer.activation.name]
