"""Encoders of series, and how they represent long series and streams."""

from nearfar.timeseries.encoder.pooling import max_pool, pool
from nearfar.timeseries.encoder.represents import Represents
from nearfar.timeseries.encoder.rolling import (
    causal_representations,
    represent_series,
    rolling_representations,
)
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.encoder.streaming import StreamingEncoder
from nearfar.timeseries.encoder.tsai_encoder import TsaiEncoder

__all__ = [
    "Represents",
    "SeriesEncoder",
    "StreamingEncoder",
    "TsaiEncoder",
    "causal_representations",
    "max_pool",
    "pool",
    "represent_series",
    "rolling_representations",
]
