"""Backbones of tsai as encoders: series are transposed for them, and steps can be hidden.

tsai's models have no place behind their first layer to hide steps at, so the mask is applied to the input, or to the
output of a layer that is named.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.interop.tsai import load

# Checked with tsai 1.0.1: these have a backbone that keeps the steps.
WITH_BACKBONE = (
    "FCNPlus",
    "ResNetPlus",
    "InceptionTimePlus",
    "XceptionTimePlus",
    "LSTMPlus",
    "GRUPlus",
    "TSTPlus",
    "TSiTPlus",
    "TSSequencerPlus",
    "XCMPlus",
    "ConvTranPlus",
)


class TsaiEncoder(nn.Module):
    """Representation of every step by the backbone of a tsai model.

    Args:
        model: A model, or the name of one, which is made with its defaults.
        num_channels: Channels of a series.
        num_steps: Steps of a series; models with a fixed length need it to be made by name.
        mask_after: Name of a layer of the backbone, as in ``named_modules()``, behind which steps are hidden; without
            one they are hidden in the input.

    Attributes:
        dim: Length of a representation, the model's ``head_nf``.
        width: The same.

    Raises:
        ConfigError: If the model is not known, has no backbone, or no such layer.
        MissingDependencyError: If tsai is needed and not installed.
    """

    def __init__(
        self,
        model: str | nn.Module,
        num_channels: int,
        num_steps: int | None = None,
        *,
        mask_after: str | None = None,
    ) -> None:
        super().__init__()
        made = _make(model, num_channels, num_steps) if isinstance(model, str) else model
        backbone, dim = getattr(made, "backbone", None), getattr(made, "head_nf", None)
        if not isinstance(backbone, nn.Module) or not isinstance(dim, int):
            raise ConfigError(
                f"model: {type(made).__name__} has no backbone with head_nf channels; models that have one: "
                f"{', '.join(WITH_BACKBONE)}"
            )
        self.num_channels, self.dim, self.width = num_channels, dim, dim
        self.backbone = backbone
        self.mask_after = mask_after
        self._mask: Tensor | None = None
        if mask_after is not None:
            layers = dict(backbone.named_modules())
            if mask_after not in layers or not mask_after:
                raise ConfigError(
                    f"mask_after: the backbone has no layer {mask_after!r}; it has "
                    f"{', '.join(name for name in layers if name)}"
                )
            layers[mask_after].register_forward_hook(self._hide)

    def forward(self, x: Tensor, hidden_mask: Tensor | None = None) -> Tensor:
        """Encode every step.

        Args:
            x: Series, shape ``(B, T, F)``. A step with a NaN counts as hidden.
            hidden_mask: Steps to keep, bool, shape ``(B, T, 1)``.

        Returns:
            Shape ``(B, T, D)``.

        Raises:
            DataError: If the shape is another one.
            ConfigError: If the backbone does not keep the steps.
        """
        if x.dim() != 3 or x.shape[2] != self.num_channels:
            raise DataError(f"x: shape (B, T, F={self.num_channels}) expected, got {tuple(x.shape)}")
        missing = x.isnan()
        kept = ~missing.any(2, keepdim=True)
        if hidden_mask is not None:
            kept = kept & hidden_mask
        filled = torch.where(missing, 0, x)
        if self.mask_after is None:
            filled = torch.where(kept, filled, 0)
        self._mask = kept
        try:
            z = self.backbone(filled.mT)
        finally:
            self._mask = None
        if z.dim() != 3 or z.shape[1:] != (self.dim, x.shape[1]):
            raise ConfigError(
                f"model: its backbone makes {tuple(z.shape)} of {x.shape[1]} steps, {(len(x), self.dim, x.shape[1])} "
                f"expected; models that keep the steps: {', '.join(WITH_BACKBONE)}"
            )
        return z.mT  # type: ignore[no-any-return]

    def represent(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, nothing hidden.

        Args:
            x: Series, shape ``(B, T, F)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        return self(x)  # type: ignore[no-any-return]

    def _hide(self, layer: nn.Module, _: object, states: Tensor) -> Tensor:
        if self._mask is None:
            return states
        rows, steps, _one = self._mask.shape
        if isinstance(states, Tensor) and states.dim() == 3 and len(states) == rows:
            if states.shape[2] == steps:
                return torch.where(self._mask.mT, states, 0)
            if states.shape[1] == steps:
                return torch.where(self._mask, states, 0)
        found = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise ConfigError(
            f"mask_after: {self.mask_after!r} ({type(layer).__name__}) makes {found}, which has no axis of {steps} "
            "steps to hide; name a layer nearer to the input"
        )


def _make(name: str, num_channels: int, num_steps: int | None) -> nn.Module:
    models = load("tsai.models.all")
    architecture: Any = getattr(models, name, None)
    if not inspect.isclass(architecture) or not issubclass(architecture, nn.Module):
        raise ConfigError(
            f"model: tsai has no model {name!r}; models that can be used: {', '.join(WITH_BACKBONE)}"
        )
    if num_steps is None and inspect.signature(architecture).parameters.get("seq_len") is not None:
        default = inspect.signature(architecture).parameters["seq_len"].default
        if default is inspect.Parameter.empty:
            raise ConfigError(f"num_steps: {name} is made for series of one length; pass it")
    # Two classes: the head is not used.
    made: nn.Module = (
        architecture(num_channels, 2)
        if num_steps is None or "seq_len" not in inspect.signature(architecture).parameters
        else architecture(num_channels, 2, seq_len=num_steps)
    )
    return made
