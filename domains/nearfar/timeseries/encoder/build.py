"""The encoder that settings ask for."""

from __future__ import annotations

from nearfar.timeseries.config import EncoderConfig
from nearfar.timeseries.encoder.series_encoder import Head, SeriesEncoder
from nearfar.timeseries.inputs import Channels


def build_encoder(config: EncoderConfig, channels: Channels, *, forecasts: bool, trail: int) -> SeriesEncoder:
    """Make it; weights come from the default generator.

    Args:
        config: Sizes.
        channels: Width of the input.
        forecasts: Whether ``head=auto`` is a trend head.
        trail: Steps of trailing statistics.

    Raises:
        ConfigError: If settings exclude each other.
    """
    head: Head = ("trend" if forecasts else "none") if config.head == "auto" else config.head
    return SeriesEncoder(
        channels.count,
        dim=config.dim,
        hidden=config.hidden,
        depth=config.depth,
        causal=config.causal,
        head=head,
        dropout=config.dropout,
        normalize=config.normalize,
        num_covariates=channels.covariates,
        trail=trail,
    )
