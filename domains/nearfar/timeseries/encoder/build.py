"""The encoder that settings ask for."""

from __future__ import annotations

from nearfar.timeseries.config import EncoderConfig
from nearfar.timeseries.encoder.series_encoder import Head, Normalize, SeriesEncoder
from nearfar.timeseries.inputs import Channels


def build_encoder(config: EncoderConfig, channels: Channels, *, forecasts: bool, trail: int) -> SeriesEncoder:
    """Make it; weights come from the default generator.

    Args:
        config: Sizes.
        channels: Width of the input.
        forecasts: Whether it is for forecasts: with a head, and ``normalize=auto`` is ``trailing``.
        trail: Steps of trailing statistics.

    Raises:
        ConfigError: If settings exclude each other.
    """
    head: Head = config.head if forecasts else "none"
    normalize: Normalize = (
        config.normalize if config.normalize != "auto" else "trailing" if forecasts else "none"
    )
    return SeriesEncoder(
        channels.count,
        dim=config.dim,
        hidden=config.hidden,
        depth=config.depth,
        causal=config.causal,
        head=head,
        dropout=config.dropout,
        normalize=normalize,
        num_covariates=channels.covariates,
        trail=trail,
    )
