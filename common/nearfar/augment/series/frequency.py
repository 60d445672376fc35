"""Operations on the spectrum: factors of the real FFT over all T steps.

Steps outside ``valid`` count as zeros in the transform and come out unchanged. So a padded row is filtered
as if it were followed by silence: its ends ring a little, and what the filter moves into the padding is
lost. The transform is circular; both ends of an unpadded row meet. NaN inside the valid steps spreads over
the whole row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


def _num_bins(batch: Batch) -> int:
    return batch.x.shape[1] // 2 + 1


def _frequency(batch: Batch) -> Tensor:
    """Frequency of every bin in units of the Nyquist frequency, shape ``(1, T // 2 + 1, 1)``."""
    doubled = torch.arange(0, 2 * _num_bins(batch), 2, device=batch.x.device).to(batch.x.dtype)
    return (doubled / batch.x.shape[1])[None, :, None]


@dataclass(frozen=True)
class FrequencyMask(SeriesOp):
    """Every frequency lost independently with probability ``ratio``, frequency 0 included.

    Args:
        ratio: Probability, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[1.0], [5.0]]])
        >>> FrequencyMask(ratio=1.0)(x, torch.Generator()).apply(x).flatten().tolist()
        [0.0, 0.0]
    """

    ratio: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)

    def _draw(self, batch: Batch) -> ViewParams:
        draw = batch.uniform(_num_bins(batch), 1)
        return ViewParams(frequency_gain=(draw >= batch.strength("ratio", self.ratio, 3)).to(batch.x.dtype))


@dataclass(frozen=True)
class BandStop(SeriesOp):
    """One band of ``floor(ratio * (T // 2 + 1))`` frequencies lost, uniformly placed.

    Args:
        ratio: Share of the frequencies, in [0, 1]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.ones(1, 6, 1)  # frequencies 0 to 3
        >>> BandStop(ratio=0.5)(x, torch.Generator().manual_seed(0)).frequency_gain.sum().item()
        2.0
    """

    ratio: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("ratio", self.ratio)

    def _draw(self, batch: Batch) -> ViewParams:
        spectrum = Batch.of(batch.x.new_empty(len(batch.x), _num_bins(batch), 1), batch.generator)
        stopped = spectrum.window(spectrum.size("ratio", self.ratio))
        return ViewParams(frequency_gain=(~stopped)[..., None].to(batch.x.dtype))


@dataclass(frozen=True)
class FrequencyJitter(SeriesOp):
    """Every frequency of every feature scaled by its own factor, ``Phi ~ N(1, std^2)``.

    Args:
        std: Standard deviation, at least 0; a number or shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[1.0], [5.0]]])
        >>> FrequencyJitter(std=0.0)(x, torch.Generator()).apply(x).flatten().tolist()
        [1.0, 5.0]
    """

    std: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("std", self.std, 0, math.inf)

    def _draw(self, batch: Batch) -> ViewParams:
        gain = batch.normal(_num_bins(batch), batch.x.shape[2], mean=1, std=self.std)
        return ViewParams(frequency_gain=gain)


@dataclass(frozen=True)
class PhaseShift(SeriesOp):
    r"""All frequencies turned by one angle, :math:`\Phi = e^{i\varphi}`, uniform on +- ``max_angle``.

    Frequency 0 and the Nyquist frequency have no phase and stay: the sum of squares does not change.

    Args:
        max_angle: In [0, pi]; a number or shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[1.0], [0.0], [-1.0], [0.0]]])
        >>> view = PhaseShift()(x, torch.Generator().manual_seed(0)).apply(x)
        >>> round(view.square().sum().item(), 5)
        2.0
    """

    max_angle: Strength = math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("max_angle", self.max_angle, 0, math.pi)

    def _draw(self, batch: Batch) -> ViewParams:
        angle = (2 * batch.uniform(1, 1) - 1) * batch.strength("max_angle", self.max_angle, 3)
        frequency = _frequency(batch)
        angle = angle * ((frequency > 0) & (frequency < 1))
        return ViewParams(frequency_gain=torch.polar(torch.ones_like(angle), angle))


@dataclass(frozen=True)
class LowPass(SeriesOp):
    """Only frequencies up to the cutoff.

    Args:
        cutoff: Highest frequency kept, in units of the Nyquist frequency, in [0, 1]; a number or
            shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0]]])
        >>> LowPass(cutoff=0.0)(x, torch.Generator()).apply(x).flatten().tolist()
        [2.0, 2.0]
    """

    cutoff: Strength = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("cutoff", self.cutoff)

    def _draw(self, batch: Batch) -> ViewParams:
        kept = _frequency(batch) <= batch.strength("cutoff", self.cutoff, 3)
        return ViewParams(frequency_gain=kept.to(batch.x.dtype))


@dataclass(frozen=True)
class HighPass(SeriesOp):
    """Only frequencies from the cutoff on; the mean goes with any cutoff above 0.

    Args:
        cutoff: Lowest frequency kept, in units of the Nyquist frequency, in [0, 1]; a number or
            shape ``(B,)``.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0]]])
        >>> HighPass(cutoff=1.0)(x, torch.Generator()).apply(x).flatten().tolist()
        [-1.0, 1.0]
    """

    cutoff: Strength = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("cutoff", self.cutoff)

    def _draw(self, batch: Batch) -> ViewParams:
        kept = _frequency(batch) >= batch.strength("cutoff", self.cutoff, 3)
        return ViewParams(frequency_gain=kept.to(batch.x.dtype))
