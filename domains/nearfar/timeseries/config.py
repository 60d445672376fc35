"""Settings shared by the time series methods: data, encoder, protocol."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from nearfar.config import RunConfig, SelectionConfig, Settings

Features: TypeAlias = Literal["S", "M"]
Head: TypeAlias = Literal["none", "trend", "light"]
Probe: TypeAlias = Literal["residual", "ts2vec"]
Classifier: TypeAlias = Literal["svm", "knn", "logistic"]


class EncoderConfig(Settings):
    """What is kept after training."""

    dim: int = Field(320, ge=2, le=8192, description="Width of the representations.")
    hidden: int = Field(64, ge=1, le=8192, description="Width of the blocks before the last.")
    depth: int = Field(10, ge=0, le=16, description="Last block's dilation is 2 to this power.")
    causal: bool = Field(
        False, description="Representations see no later step: one pass serves all, and streams."
    )
    head: Head = Field(
        "none",
        description="trend: mean of 8 causal convolutions (CoST); light: causal means, mixed; or none.",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Of the representations, in training.")
    normalize: Literal["none", "series", "trailing"] = Field(
        "none",
        description="Centre and scale every series (series) or every step by those before it (trailing); level and "
        "scale are appended to the representation.",
    )


class TimeSeriesConfig(RunConfig):
    """Data, encoder and evaluation of every time series method."""

    data: str = Field(
        "gunpoint",
        description="etth1, etth2, ettm1, ettm2 or a .csv file (forecasting); gunpoint, coffee, pigcvp, basicmotions, "
        "a UEA name or an .npz file (classification).",
    )
    features: Features = Field("S", description="Forecasting: S is the target alone, M all channels.")
    target: str | None = Field(None, description="Forecasting: column of the target; null is the last one.")
    horizons: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="Steps ahead; null is the data's own, 24 to 720 for hourly data."
    )
    independent: bool = Field(
        True, description="Forecasting with M: every channel a series of its own, through one encoder."
    )
    calendar: Literal["all", "cycles", "none"] = Field(
        "all",
        description="Forecasting: features of time an encoder is given; cycles: minute, hour and weekday, whose values "
        "come back often enough to learn from.",
    )
    window: int = Field(
        201, ge=1, le=10_000, description="Steps a representation is computed from, and lags of probes."
    )
    probe: Probe = Field(
        "residual",
        description="residual: ridge on lags and representation against the last value, chosen by validation; ts2vec: "
        "the published one, ridge on the representation alone.",
    )
    classifier: Classifier = Field("svm", description="Of series: svm (published), knn or logistic.")
    encoder: EncoderConfig = EncoderConfig()
    epochs: int = Field(100, ge=0, description="Passes over the training data.")
    selection: SelectionConfig = SelectionConfig(metric="val/error", mode="min", every=25)
