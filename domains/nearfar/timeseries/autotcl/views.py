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
    SeriesOp,
    ViewParams,
)
from nearfar.timeseries.autotcl.config import Kind

# Strengths of the paper's ablation (section 4.3), drawn anew for every series.
JITTER, CUTOUT = (0.3, 1.0), (0.3, 0.8)
SMALLEST_OVERLAP = 8


@dataclass(frozen=True, eq=False)
class Pair:
    """What is contrasted.

    Attributes:
        anchor: Shape ``(B, T, F)``; NaN is missing.
        view: Same shape.
        shift: Steps by which the view begins later: step t of it is step t + shift of the anchor.
    """

    anchor: Tensor
    view: Tensor
    shift: int = 0

    def cropped(self, generator: torch.Generator) -> Pair:
        """Two crops that have some steps in common, 8 at least, at one place in all series (TS2Vec, section 3.2).

        Differs from TS2Vec: both are of one length, so that one pass through the encoder serves both. Differs from
        :class:`~nearfar.augment.series.OverlappingCrops`: one place for all series, so that crops are really shorter,
        and cost less, instead of padded.

        Args:
            generator: Source of the place; on the CPU, where the size of a tensor has to be known.

        Example:
            >>> x = torch.arange(40.0).reshape(1, 40, 1)
            >>> pair = Pair(x, x).cropped(torch.Generator().manual_seed(0))
            >>> torch.equal(pair.anchor[:, pair.shift :], pair.view[:, : pair.view.shape[1] - pair.shift])
            True
        """
        steps = self.anchor.shape[1]
        least = min(SMALLEST_OVERLAP, steps)
        draws = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        overlap = least + int(draws[0] * (steps - least + 1))
        shift = int(draws[1] * ((steps - overlap) // 2 + 1))
        begin = int(draws[2] * (steps - overlap - 2 * shift + 1))
        size = overlap + shift
        return Pair(
            self.anchor[:, begin : begin + size], self.view[:, begin + shift : begin + shift + size], shift
        )


def fixed_pair(x: Tensor, kind: Kind, generator: torch.Generator, *, num_covariates: int = 0) -> Pair:
    """Two views of a kind nobody trains.

    Args:
        x: Shape ``(B, T, F)``; NaN is missing.
        kind: ``none``, ``jitter``, ``cutout`` or ``random``; ``crops``, which are cut from the pair, is ``none`` here.
        generator: Source of the draws.
        num_covariates: Channels, the first ones, that stay.

    Raises:
        ValueError: If the kind is another one.
    """
    if kind in ("none", "crops"):
        return Pair(x, x)
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
