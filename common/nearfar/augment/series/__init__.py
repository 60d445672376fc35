"""Augmentations of time series as data: every operation returns the parameters of a view.

>>> import torch
>>> from nearfar.augment import series
>>> augment = series.Compose((series.Scaling(p=0.5), series.TimeWarp(), series.Jitter(std=0.1)))
>>> x = torch.zeros(4, 100, 3)
>>> view = augment(x, torch.Generator().manual_seed(0))  # all three: one gather, one multiply-add
>>> view.apply(x).shape
torch.Size([4, 100, 3])
"""

from nearfar.augment.series.compose import Compose, OneOf
from nearfar.augment.series.crops import CropPair, OverlappingCrops
from nearfar.augment.series.frequency import (
    BandStop,
    FrequencyJitter,
    FrequencyMask,
    HighPass,
    LowPass,
    PhaseShift,
)
from nearfar.augment.series.hidden import HiddenBinomial, HiddenContinuous, HiddenLast
from nearfar.augment.series.masking import ChannelDropout, Cutout, Subsequence, TimeMask
from nearfar.augment.series.mixing import Mixup
from nearfar.augment.series.mixture import MixtureAugment
from nearfar.augment.series.noise import Flip, Identity, Jitter, MagnitudeWarp, Scaling
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.time_order import reversed_series, swapped_segments
from nearfar.augment.series.view import ViewParams
from nearfar.augment.series.warping import (
    Permutation,
    Reverse,
    TimeShift,
    TimeWarp,
    WindowSlice,
    WindowWarp,
)

__all__ = [
    "BandStop",
    "ChannelDropout",
    "Compose",
    "CropPair",
    "Cutout",
    "Flip",
    "FrequencyJitter",
    "FrequencyMask",
    "HiddenBinomial",
    "HiddenContinuous",
    "HiddenLast",
    "HighPass",
    "Identity",
    "Jitter",
    "LowPass",
    "MagnitudeWarp",
    "MixtureAugment",
    "Mixup",
    "OneOf",
    "OverlappingCrops",
    "Permutation",
    "PhaseShift",
    "Reverse",
    "Scaling",
    "SeriesOp",
    "Subsequence",
    "TimeMask",
    "TimeShift",
    "TimeWarp",
    "ViewParams",
    "WindowSlice",
    "WindowWarp",
    "reversed_series",
    "swapped_segments",
]
