"""Representations of a whole data set by one encoder, without gradient, in evaluation mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nearfar.timeseries.config import TimeSeriesConfig
from nearfar.timeseries.datasets import ForecastDataset
from nearfar.timeseries.encoder.pooling import max_pool
from nearfar.timeseries.encoder.rolling import represent_series
from nearfar.timeseries.inputs import forecast_inputs

BATCH = 128


@torch.no_grad()
def forecast_representations(encoder: Any, dataset: ForecastDataset, config: TimeSeriesConfig) -> Tensor:
    """Of every step from ``window - 1`` to the end of the test part; others are zero.

    Args:
        encoder: In evaluation mode.
        dataset: N steps of C channels.
        config: Window a representation is computed from (a causal encoder sees all there was), and its inputs.

    Returns:
        Shape ``(N, D)``, or ``(N, C, D)`` for independent channels, on the CPU.
    """
    parameter = next(encoder.parameters())
    window = config.window
    inputs = forecast_inputs(dataset, config)[:, : dataset.split.test_end]
    found = []
    for series in inputs:
        z = represent_series(encoder, series.to(parameter), window=window, first=window - 1).cpu()
        padded = z.new_zeros(len(dataset.values), z.shape[1])
        padded[window - 1 : len(series)] = z[-(len(series) - window + 1) :]
        found.append(padded)
    return torch.stack(found, 1) if config.independent else found[0]


@torch.no_grad()
def series_representations(encoder: Any, x: Tensor) -> Tensor:
    """Maximum over the steps of every series, shape ``(N, D)``, on the CPU.

    Args:
        encoder: In evaluation mode.
        x: Shape ``(N, T, F)``; NaN is missing.
    """
    parameter = next(encoder.parameters())
    found = []
    for part in x.split(BATCH):
        inputs = part.to(parameter)
        found.append(max_pool(encoder.represent(inputs), ~inputs.isnan().any(2)).cpu())
    return torch.cat(found)
