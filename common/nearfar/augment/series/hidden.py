"""Masks for the hidden states of an encoder, behind its first layer (TS2Vec, Yue et al., AAAI 2022).

They are the noise of AutoTCL (Zheng et al., ICLR 2024). An encoder applies them with ``ViewParams.hide``,
which puts true zeros even in place of NaN; with ``valid``, padding counts as kept.
Differs from the official code of both: 0 times NaN leaves NaN there.
"""

from __future__ import annotations

from dataclasses import dataclass

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


@dataclass(frozen=True)
class HiddenBinomial(SeriesOp):
    """Every step kept independently.

    Args:
        keep: Probability, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 3, 1)
        >>> HiddenBinomial(keep=1.0)(x, torch.Generator()).hidden_mask.flatten().tolist()
        [True, True, True]
    """

    keep: Strength = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("keep", self.keep)

    def _draw(self, batch: Batch) -> ViewParams:
        draw = batch.uniform(batch.x.shape[1], 1)
        return ViewParams(hidden_mask=draw < batch.strength("keep", self.keep, 3))


@dataclass(frozen=True)
class HiddenContinuous(SeriesOp):
    """Spans of ``max(1, floor(ratio * T))`` steps hidden, uniformly placed; they may overlap.

    Args:
        num_spans: At least 1.
        ratio: Length of a span as a share of the series, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 20, 1)
        >>> view = HiddenContinuous(num_spans=1)(x, torch.Generator().manual_seed(0))
        >>> view.hidden_mask.sum().item()
        18
    """

    num_spans: int = 5
    ratio: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)
        if self.num_spans < 1:
            raise ValueError(f"num_spans: at least 1 expected, got {self.num_spans}")

    def _draw(self, batch: Batch) -> ViewParams:
        size = batch.size("ratio", self.ratio).clamp(min=1)
        hidden = batch.window(size)
        for _ in range(self.num_spans - 1):
            hidden = hidden | batch.window(size)
        return ViewParams(hidden_mask=~hidden[..., None])


@dataclass(frozen=True)
class HiddenLast(SeriesOp):
    """The last valid step hidden.

    Example:
        >>> import torch
        >>> x = torch.zeros(1, 3, 1)
        >>> HiddenLast()(x, torch.Generator()).hidden_mask.flatten().tolist()
        [True, True, False]
    """

    def _draw(self, batch: Batch) -> ViewParams:
        return ViewParams(hidden_mask=(batch.step != batch.length - 1)[..., None])
