"""What an encoder is given of a data set: calendar features first, then the series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from nearfar.timeseries.calendar_features import CALENDAR
from nearfar.timeseries.config import TimeSeriesConfig
from nearfar.timeseries.datasets import ClassificationDataset, ForecastDataset

Dataset: TypeAlias = ForecastDataset | ClassificationDataset

# A year of training shows every month once: what the others say of it cannot hold in the next.
CYCLES = ("minute", "hour", "weekday")


@dataclass(frozen=True)
class Channels:
    """Width of the input.

    Attributes:
        count: All of them.
        covariates: How many, the first ones, are calendar features.
    """

    count: int
    covariates: int

    @classmethod
    def of(cls, dataset: Dataset, config: TimeSeriesConfig) -> Channels:
        """Of a data set.

        Args:
            dataset: To classify or to forecast.
            config: Which calendar, and whether channels are series of their own.
        """
        if isinstance(dataset, ClassificationDataset):
            return cls(dataset.x_train.shape[2], 0)
        covariates = calendar(dataset, config).shape[1]
        return cls(covariates + (1 if config.independent else dataset.values.shape[1]), covariates)


def calendar(dataset: ForecastDataset, config: TimeSeriesConfig) -> Tensor:
    """Calendar features an encoder is given, shape ``(N, K)``; none where the data have no times.

    Args:
        dataset: With all of them.
        config: ``calendar`` says which.
    """
    known = dataset.covariates
    if config.calendar == "all" or known.shape[1] == 0:
        return known
    return known[:, [CALENDAR.index(name) for name in CYCLES] if config.calendar == "cycles" else []]


def forecast_inputs(dataset: ForecastDataset, config: TimeSeriesConfig) -> Tensor:
    """Whole series with their calendar, shape ``(C, N, F)``, or ``(1, N, F)`` for all channels at once.

    Args:
        dataset: N steps of C channels.
        config: As of :meth:`Channels.of`.
    """
    values = dataset.values.T[:, :, None] if config.independent else dataset.values[None]
    return torch.cat([calendar(dataset, config).expand(len(values), -1, -1), values], 2)


def training_series(dataset: Dataset, config: TimeSeriesConfig) -> Tensor:
    """What may be trained on, shape ``(N, T, F)``; nothing of validation and test is in it.

    Args:
        dataset: To classify or to forecast.
        config: As of :meth:`Channels.of`.
    """
    if isinstance(dataset, ClassificationDataset):
        return dataset.x_train
    return forecast_inputs(dataset, config)[:, : dataset.split.train_end]
