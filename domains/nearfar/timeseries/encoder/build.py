"""The encoder that settings ask for."""

from __future__ import annotations

from nearfar.timeseries.config import EncoderConfig
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.inputs import Channels


def build_encoder(config: EncoderConfig, channels: Channels, *, trail: int) -> SeriesEncoder:
    """Make it; weights come from the default generator.

    Args:
        config: Sizes.
        channels: Width of the input.
        trail: Steps of trailing statistics.

    Raises:
        ConfigError: If settings exclude each other.
    """
    return SeriesEncoder(
        channels.count,
        dim=config.dim,
        hidden=config.hidden,
        depth=config.depth,
        causal=config.causal,
        head=config.head,
        dropout=config.dropout,
        normalize=config.normalize,
        num_covariates=channels.covariates,
        trail=trail,
    )
