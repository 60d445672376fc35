"""Two views of a batch: the series itself and what the augmenter makes of it, or one of the usual augmentations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment.draws import uniform
from nearfar.augment.series import (
    Cutout,
    HiddenBinomial,
    HiddenContinuous,
    HiddenLast,
    Jitter,
    OneOf,
    OverlappingCrops,
    SeriesOp,
    ViewParams,
)
from nearfar.timeseries.autotcl.config import Kind

# Strengths of the paper's ablation (section 4.3), drawn anew for every series.
JITTER, CUTOUT = (0.3, 1.0), (0.3, 0.8)


@dataclass(frozen=True, eq=False)
class Pair:
    """What is contrasted.

    Attributes:
        anchor: Shape ``(B, T, F)``; NaN is missing.
        view: Same shape.
    """

    anchor: Tensor
    view: Tensor


def fixed_pair(x: Tensor, kind: Kind, generator: torch.Generator, *, num_covariates: int = 0) -> Pair:
    """Two views of a kind nobody trains.

    Args:
        x: Shape ``(B, T, F)``; NaN is missing, at the beginning and end of a series only for ``crops``.
        kind: ``none``, ``jitter``, ``cutout``, ``random`` or ``crops``.
        generator: Source of the draws.
        num_covariates: Channels, the first ones, that only crops change.

    Raises:
        ValueError: If the kind is another one.
    """
    if kind == "none":
        return Pair(x, x)
    if kind == "crops":
        valid = ~x.isnan().any(2)
        crops = OverlappingCrops()(x, generator, valid=valid)
        seen = [
            view.apply(x).masked_fill(~inside[..., None], torch.nan)
            for view, inside in ((crops.first, crops.first_valid), (crops.second, crops.second_valid))
        ]
        return Pair(*seen)
    signal = x[..., num_covariates:]
    view = _operation(x, kind, generator)(signal, generator).apply(signal)
    return Pair(x, torch.cat([x[..., :num_covariates], view], 2))


def _operation(x: Tensor, kind: Kind, generator: torch.Generator) -> SeriesOp:
    jitter, cutout = (
        Jitter(std=_between(JITTER, x, generator)),
        Cutout(ratio=_between(CUTOUT, x, generator)),
    )
    if kind == "jitter":
        return jitter
    if kind == "cutout":
        return cutout
    if kind == "random":
        return OneOf((jitter, cutout))
    raise ValueError(f"kind: none, crops, jitter, cutout or random expected, got {kind!r}")


def _between(bounds: tuple[float, float], x: Tensor, generator: torch.Generator) -> Tensor:
    low, high = bounds
    return low + (high - low) * uniform((len(x),), x, generator)


def hidden_mask(x: Tensor, mode: str, generator: torch.Generator) -> Tensor | None:
    """Steps an encoder keeps behind its first layer, shape ``(B, T, 1)``, bool; ``None`` keeps all.

    Args:
        x: Series, shape ``(B, T, F)``.
        mode: ``binomial``, ``continuous``, ``mask_last``, ``all_true`` or ``all_false``.
        generator: Source of the draw.
    """
    if mode == "all_true":
        return None
    if mode == "all_false":
        return torch.zeros(*x.shape[:2], 1, dtype=torch.bool, device=x.device)
    operations: dict[str, SeriesOp] = {
        "binomial": HiddenBinomial(),
        "continuous": HiddenContinuous(),
        "mask_last": HiddenLast(),
    }
    drawn: ViewParams = operations[mode](x, generator)
    return drawn.hidden_mask
