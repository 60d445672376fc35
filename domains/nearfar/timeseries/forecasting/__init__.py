"""Forecasts from representations, and how good they are: splits, ridge probes, naive forecasts, scores."""

from nearfar.timeseries.forecasting.evaluation import HorizonScore, forecast_scores
from nearfar.timeseries.forecasting.residual_probe import FittedProbe, ResidualProbe
from nearfar.timeseries.forecasting.ridge import ALPHAS, ridge_path
from nearfar.timeseries.forecasting.split import ForecastSplit, anchor_rows

__all__ = [
    "ALPHAS",
    "FittedProbe",
    "ForecastSplit",
    "HorizonScore",
    "ResidualProbe",
    "anchor_rows",
    "forecast_scores",
    "ridge_path",
]
