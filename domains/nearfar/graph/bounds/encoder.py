"""The two layers whose output is bounded: weights, biases, activation slopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.graph.bounds.relaxation import Slope, check_slope

Layer = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class TwoLayers:
    r"""An encoder :math:`z = \sigma_2(\hat A\, \sigma_1(\hat A X W_1 + b_1) W_2 + b_2)`.

    Attributes:
        weights: Shapes ``(d0, d1)`` and ``(d1, d2)``.
        biases: Shapes ``(d1,)`` and ``(d2,)``; ``None`` is zero.
        slopes: Of both activations for negative arguments: 0 is ReLU, 1 the identity.
    """

    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor | None, Tensor | None]
    slopes: tuple[Slope, Slope]

    @classmethod
    def of(cls, layers: Sequence[Layer], slope: Slope | Sequence[Slope]) -> TwoLayers:
        """Checked; half precision is widened to float32.

        Args:
            layers: Weight ``(d_in, d_out)`` and bias ``(d_out,)`` of both layers.
            slope: One for both layers, or one for each.

        Raises:
            ConfigError: If there are not two layers, their shapes do not fit, or a slope is not in [0, 1].
        """
        if len(layers) != 2:
            raise ConfigError(
                f"layers: the closed form bounds encoders of 2 layers, got {len(layers)}; for others see "
                "nearfar.graph.ego_bounds"
            )
        slopes = tuple(slope) if isinstance(slope, Sequence) else (slope, slope)
        if len(slopes) != 2:
            raise ConfigError(f"slope: one number, or one for each of 2 layers expected, got {len(slopes)}")
        for number, one in enumerate(slopes, 1):
            check_slope(f"slope of layer {number}", one)
        for number, (weight, bias) in enumerate(layers, 1):
            if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[1:]):
                got = f"{tuple(weight.shape)} and {None if bias is None else tuple(bias.shape)}"
                raise ConfigError(
                    f"layer {number}: weight (d_in, d_out) and bias (d_out,) expected, got shapes {got}"
                )
        (w1, b1), (w2, b2) = layers
        if w1.shape[1] != w2.shape[0]:
            raise ConfigError(
                f"layers: layer 1 has {w1.shape[1]} outputs, layer 2 {w2.shape[0]} inputs; weights are (d_in, d_out)"
            )
        return cls(
            (_wide(w1), _wide(w2)),
            (None if b1 is None else _wide(b1), None if b2 is None else _wide(b2)),
            (slopes[0], slopes[1]),
        )

    def to(self, dtype: torch.dtype) -> TwoLayers:
        """The same in another precision."""
        return TwoLayers(
            *(tuple(_to(x, dtype) for x in part) for part in (self.weights, self.biases, self.slopes))
        )


def _to(x: Slope | Tensor | None, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) else x


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
