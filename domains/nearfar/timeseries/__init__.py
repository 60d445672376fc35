"""Time series: representations by contrast with learnt augmentations (AutoTCL), probes, forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.timeseries.autotcl.augmenter import Augmenter
    from nearfar.timeseries.autotcl.config import AutoTCLConfig
    from nearfar.timeseries.autotcl.method import AutoTCL
    from nearfar.timeseries.classification.cross_validation import cross_validated_accuracy
    from nearfar.timeseries.classification.probe import classify
    from nearfar.timeseries.datasets import ClassificationDataset, ForecastDataset, load_dataset
    from nearfar.timeseries.encoder.pooling import pool
    from nearfar.timeseries.encoder.rolling import represent_series
    from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
    from nearfar.timeseries.encoder.streaming import StreamingEncoder
    from nearfar.timeseries.encoder.tsai_encoder import TsaiEncoder
    from nearfar.timeseries.estimator import AutoTCLEncoder
    from nearfar.timeseries.forecasting.evaluation import forecast_scores
    from nearfar.timeseries.forecasting.residual_probe import ResidualProbe
    from nearfar.timeseries.saved import load_encoder
    from nearfar.timeseries.task import SeriesTask

_HOME = {
    "Augmenter": "autotcl.augmenter",
    "AutoTCL": "autotcl.method",
    "AutoTCLConfig": "autotcl.config",
    "AutoTCLEncoder": "estimator",
    "ClassificationDataset": "datasets",
    "ForecastDataset": "datasets",
    "ResidualProbe": "forecasting.residual_probe",
    "SeriesEncoder": "encoder.series_encoder",
    "SeriesTask": "task",
    "StreamingEncoder": "encoder.streaming",
    "TsaiEncoder": "encoder.tsai_encoder",
    "classify": "classification.probe",
    "cross_validated_accuracy": "classification.cross_validation",
    "forecast_scores": "forecasting.evaluation",
    "load_dataset": "datasets",
    "load_encoder": "saved",
    "pool": "encoder.pooling",
    "represent_series": "encoder.rolling",
}

__all__ = [
    "Augmenter",
    "AutoTCL",
    "AutoTCLConfig",
    "AutoTCLEncoder",
    "ClassificationDataset",
    "ForecastDataset",
    "ResidualProbe",
    "SeriesEncoder",
    "SeriesTask",
    "StreamingEncoder",
    "TsaiEncoder",
    "classify",
    "cross_validated_accuracy",
    "forecast_scores",
    "load_dataset",
    "load_encoder",
    "pool",
    "represent_series",
]

__getattr__ = lazy_names(__name__, _HOME)
