"""The encoder of a series: normalisation, trunk, dropout, and a trend head where forecasts are wanted."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError, DataError
from nearfar.runtime.dropout import Dropout
from nearfar.timeseries.encoder.light_trend import LightTrendHead
from nearfar.timeseries.encoder.normalization import series_statistics, trailing_statistics
from nearfar.timeseries.encoder.trend import TrendHead
from nearfar.timeseries.encoder.trunk import Trunk

Head = Literal["none", "trend", "light"]
Normalize = Literal["none", "series", "trailing"]


class SeriesEncoder(nn.Module):
    """Representation of every step of a series.

    The forecasting encoder of the paper is ``head="trend"``, the one for classification ``head="none"``.

    Args:
        num_channels: Channels of a series.
        dim: Length of a representation.
        hidden: Channels of all blocks of the trunk but the last.
        depth: Dilation of its last block as a power of two.
        causal: Whether no step hears a later one: one pass gives what windows give, and points may come one by one.
        head: ``trend``: eight causal convolutions of 1 to 128 steps (CoST); ``light``: causal means and a mixing
            layer instead.
        dropout: Probability, behind the trunk while training.
        normalize: ``series``: signal channels minus their mean, by their standard deviation; ``trailing``: those of
            the last ``trail`` steps.
        num_covariates: First channels that are not normalised, such as those of the calendar.
        trail: Steps of trailing statistics, the present one included.

    Attributes:
        width: Length of what :meth:`represent` gives for a step.
        arguments: What it was made with, by name.

    Raises:
        ConfigError: If a setting is out of its range, or two exclude each other.

    Example:
        >>> encoder = SeriesEncoder(2, dim=5, hidden=4, depth=2, normalize="series")
        >>> encoder(torch.ones(3, 10, 2)).shape, encoder.represent(torch.ones(3, 10, 2)).shape
        (torch.Size([3, 10, 5]), torch.Size([3, 10, 9]))
    """

    def __init__(
        self,
        num_channels: int,
        *,
        dim: int = 320,
        hidden: int = 64,
        depth: int = 10,
        causal: bool = False,
        head: Head = "none",
        dropout: float = 0.1,
        normalize: Normalize = "none",
        num_covariates: int = 0,
        trail: int = 201,
    ) -> None:
        super().__init__()
        _at_least("num_channels", num_channels, 1)
        _at_least("dim", dim, 1)
        _at_least("hidden", hidden, 1)
        _at_least("depth", depth, 0)
        _at_least("trail", trail, 2)
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout: a probability in [0, 1) expected, got {dropout}")
        if not 0 <= num_covariates < num_channels:
            raise ConfigError(
                f"num_covariates: from 0 to {num_channels - 1} of {num_channels} channels expected, got "
                f"{num_covariates}; one signal channel at least must be left"
            )
        if head not in ("none", "trend", "light"):
            raise ConfigError(f"head: none, trend or light expected, got {head!r}")
        if normalize not in ("none", "series", "trailing"):
            raise ConfigError(f"normalize: none, series or trailing expected, got {normalize!r}")
        if causal and normalize == "series":
            raise ConfigError(
                "normalize: series reads the future, which causal=True excludes; use normalize='trailing'"
            )
        self.arguments: dict[str, Any] = {
            "num_channels": num_channels,
            "dim": dim,
            "hidden": hidden,
            "depth": depth,
            "causal": causal,
            "head": head,
            "dropout": dropout,
            "normalize": normalize,
            "num_covariates": num_covariates,
            "trail": trail,
        }
        self.num_channels, self.num_covariates = num_channels, num_covariates
        self.dim, self.causal, self.normalize, self.trail = dim, causal, normalize, trail
        self.width = dim if normalize == "none" else dim + 2 * (num_channels - num_covariates)
        # This order is the published one, and decides what a seed gives.
        self.trunk = Trunk(num_channels, dim=dim, hidden=hidden, depth=depth, causal=causal)
        self.dropout = Dropout(dropout)
        self.head: TrendHead | LightTrendHead | None = None
        if head != "none":
            self.head = TrendHead(dim) if head == "trend" else LightTrendHead(dim)

    @property
    def receptive_field(self) -> int:
        """Steps that one output hears, its own included; of trunk and head alone with ``normalize="series"``."""
        past = self.trunk.reach + (0 if self.head is None else self.head.past)
        if self.normalize == "trailing":
            past += self.trail - 1
        return 1 + past + (0 if self.causal else self.trunk.reach)

    def forward(self, x: Tensor, hidden_mask: Tensor | None = None) -> Tensor:
        """Encode every step.

        Args:
            x: Series, shape ``(B, T, F)``. A step with a NaN counts as hidden.
            hidden_mask: Steps to keep behind the first layer, bool, shape ``(B, T, 1)``.

        Returns:
            Shape ``(B, T, dim)``.

        Raises:
            DataError: If the shape is another one.
        """
        return self._encode(self.normalized(x)[0], hidden_mask)

    def represent(self, x: Tensor) -> Tensor:
        """Encode every step and, where inputs are normalised, append what that took away.

        Args:
            x: Series, shape ``(B, T, F)``. A step with a NaN counts as hidden.

        Returns:
            Shape ``(B, T, width)``: the representation, levels and logarithms of scales of the signal channels.

        Raises:
            DataError: If the shape is another one.
        """
        normal, sides = self.normalized(x)
        z = self._encode(normal, None)
        return z if sides is None else torch.cat([z, sides.expand(-1, z.shape[1], -1)], dim=2)

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the trunk gets, and the side features.

        Args:
            x: Series, shape ``(B, T, F)``.

        Returns:
            Series of the same shape, and levels and logarithms of scales, shape ``(B, 1 or T, 2 * signal channels)``,
            ``None`` without normalisation.

        Raises:
            DataError: If the shape is another one.
        """
        if x.dim() != 3 or x.shape[2] != self.num_channels or x.shape[1] == 0:
            raise DataError(
                f"x: shape (B, T, F) with F = {self.num_channels} channels and a step at least expected, got "
                f"{tuple(x.shape)}; channels come last, x.transpose(1, 2) brings them there"
            )
        if self.normalize == "none":
            return x, None
        covariates, signal = x.tensor_split([self.num_covariates], dim=2)
        if self.normalize == "series":
            level, scale = series_statistics(signal)
        else:
            level, scale = trailing_statistics(signal, self.trail)
        # NaN must stay out of the division, where it would become the gradient of the scale.
        missing = signal.isnan()
        normal = torch.where(missing, torch.nan, (torch.where(missing, 0, signal) - level) / scale)
        return torch.cat([covariates, normal], dim=2), torch.cat([level, scale.log()], dim=2)

    def _encode(self, normal: Tensor, hidden_mask: Tensor | None) -> Tensor:
        z = self.dropout(self.trunk(normal, hidden_mask))
        return z if self.head is None else self.head(z)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"{self.num_channels} channels, causal={self.causal}, normalize={self.normalize!r}"


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name}: {least} at least expected, got {value}")
