"""Features and targets of forecasts as windows of the series; a block at a time, never all of them copied.

With an anchor the last value is subtracted from lags and targets, so a model of them follows every shift of the level
by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.errors import DataError

LAGS = 201


@dataclass(frozen=True, eq=False)
class ChannelSamples:
    """Forecasts of one channel, from its last values and what an encoder made of the series.

    With an anchor the last lag would be zero always and is left out.

    Attributes:
        values: The channel, float64, shape ``(N,)``.
        phi: Representations, shape ``(N, D)``, or ``None``.
        lags: Values that are features, the last one included; none with 0.
        anchored: Whether the last value is subtracted from lags and targets.
    """

    values: Tensor
    phi: Tensor | None = None
    lags: int = LAGS
    anchored: bool = True

    @property
    def num_lags(self) -> int:
        """Columns of lags; they come first."""
        return max(self.lags - self.anchored, 0)

    @property
    def num_features(self) -> int:
        """Columns of the features."""
        return self.num_lags + (0 if self.phi is None else self.phi.shape[1])

    def num_targets(self, horizon: int) -> int:
        """Columns of the targets: one a row to forecast."""
        return horizon

    def features(self, rows: range) -> Tensor:
        """What forecasts that start at ``rows`` are made from, float64, shape ``(n, p)``."""
        start, stop = rows.start, rows.stop
        parts = []
        if self.num_lags:
            windows = self.values[start - self.lags + 1 : stop].unfold(0, self.lags, 1)
            parts.append(windows[:, :-1] - windows[:, -1:] if self.anchored else windows)
        if self.phi is not None:
            parts.append(self.phi[start:stop].double())
        return torch.cat(parts, 1) if parts else self.values.new_zeros(len(rows), 0)

    def targets(self, rows: range, horizon: int) -> Tensor:
        """The next values, less the last one with an anchor, float64, shape ``(n, H)``."""
        windows = self.values[rows.start + 1 : rows.stop + horizon].unfold(0, horizon, 1)
        return windows - self.values[rows.start : rows.stop, None] if self.anchored else windows


@dataclass(frozen=True, eq=False)
class JointSamples:
    """Forecasts of all channels at once from representations, the protocol of TS2Vec (Yue et al., AAAI 2022).

    Attributes:
        values: The channels, float64, shape ``(N, C)``.
        phi: Representations, shape ``(N, D)``.
    """

    values: Tensor
    phi: Tensor

    @property
    def num_features(self) -> int:
        """Columns of the features."""
        return self.phi.shape[1]

    def num_targets(self, horizon: int) -> int:
        """Columns of the targets: all channels of the first row to forecast, then of the second, and so on."""
        return horizon * self.values.shape[1]

    def features(self, rows: range) -> Tensor:
        """Representations at ``rows``, float64, shape ``(n, D)``."""
        return self.phi[rows.start : rows.stop].double()

    def targets(self, rows: range, horizon: int) -> Tensor:
        """The next values, float64, shape ``(n, H * C)``."""
        windows = self.values[rows.start + 1 : rows.stop + horizon].unfold(0, horizon, 1)
        return windows.transpose(1, 2).reshape(len(rows), -1)


def check_representations(
    phi: Tensor, num_rows: int, num_channels: int, first: int, stop: int | None = None
) -> None:
    """Refuse representations that do not belong to the series.

    Args:
        phi: Shared by the channels, shape ``(N, D)``, or one a channel, shape ``(N, C, D)``.
        num_rows: Rows of the series.
        num_channels: Channels of the series.
        first: Rows before it are not looked at: a window that ends there would be incomplete.
        stop: This row and those after it are not looked at either.

    Raises:
        DataError: If the shape is another, or a number is not finite.

    Example:
        >>> check_representations(torch.zeros(9, 4), 10, 1, first=2)
        Traceback (most recent call last):
        nearfar.errors.DataError: phi: shape (10, D) or (10, 1, D) expected, one row a row of the series, got (9, 4)
    """
    if (
        phi.dim() not in (2, 3)
        or len(phi) != num_rows
        or (phi.dim() == 3 and phi.shape[1] != num_channels)
        or 0 in phi.shape
    ):
        raise DataError(
            f"phi: shape ({num_rows}, D) or ({num_rows}, {num_channels}, D) expected, one row a row of the series, "
            f"got {tuple(phi.shape)}"
        )
    finite = phi[first:stop].flatten(1).isfinite().all(1)
    if not finite.all():
        row = first + int((~finite).nonzero()[0])
        raise DataError(
            f"phi: row {row} is not finite, and {int((~finite).sum()) - 1} others; look for NaN in the series or in "
            "the encoder"
        )


@dataclass(frozen=True, eq=False)
class Standardization:
    """Means and deviations of columns; a constant column has an infinite deviation and becomes zero.

    Attributes:
        mean: Shape ``(D,)``.
        scale: Shape ``(D,)``.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, seen: Tensor) -> Standardization:
        """Of some rows, shape ``(n, D)``.

        Example:
            >>> Standardization.of(torch.tensor([[1.0, 2.0], [3.0, 2.0]])).apply(torch.tensor([[4.0, 9.0]])).tolist()
            [[2.0, 0.0]]
        """
        seen = seen.double()
        constant = seen.amax(0) == seen.amin(0)
        return cls(seen.mean(0), torch.where(constant, torch.inf, seen.std(0, correction=0)))

    def apply(self, phi: Tensor) -> Tensor:
        """Every column less its mean, over its deviation; shape ``(N, D)``, float64."""
        return (phi.double() - self.mean) / self.scale
