"""The trend layers of CoST (Woo et al., ICLR 2022), which AutoTCL forecasts with: eight causal convolutions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.errors import ConfigError
from nearfar.timeseries.encoder.collapsed import SCALES, TAPS, collapse, convolution
from nearfar.timeseries.encoder.fourier import fourier_convolution, kernel_spectrum, transform_size

TrendMode = Literal["auto", "direct", "collapsed", "fourier"]
MODES = ("auto", "direct", "collapsed", "fourier")
# Steps of a batch from which the spectrum of the kernel pays on a CPU (measured at 320 channels).
MANY_STEPS = 2048


class TrendHead(nn.Module):
    """Mean of causal convolutions over 1, 2, 4, ..., 128 steps.

    Args:
        dim: Channels in and out.
        mode: How it is computed; the result is the same up to rounding. ``direct``: eight convolutions, as published.
            ``collapsed``: one of 128 taps. ``fourier``: that one in the frequency domain. ``auto``: ``fourier`` for
            large batches on a CPU, else ``collapsed``.

    Raises:
        ConfigError: If there is no such mode.
    """

    past = TAPS - 1

    def __init__(self, dim: int, mode: TrendMode = "auto") -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f"mode: one of {', '.join(MODES)} expected, got {mode!r}")
        self.dim, self.mode = dim, mode
        self.convs = nn.ModuleList(nn.Conv1d(dim, dim, scale) for scale in SCALES)

    def forward(self, u: Tensor) -> Tensor:
        """Trend of every step.

        Args:
            u: Output of the trunk, shape ``(B, T, D)``; zeros precede it.

        Returns:
            Shape ``(B, T, D)``.
        """
        return self.continued(F.pad(u, (0, 0, self.past, 0)))

    def continued(self, u: Tensor) -> Tensor:
        """Trend of the steps after the first 127.

        Args:
            u: Shape ``(B, 127 + T, D)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        mode = self.mode
        if mode == "direct":
            return self._direct(u)
        if mode == "auto":
            many = u.device.type == "cpu" and len(u) * (u.shape[1] - self.past) >= MANY_STEPS
            mode = "fourier" if many else "collapsed"
        compute = fourier_convolution if mode == "fourier" else convolution
        return compute(u, self.kernel()) + self.bias()

    def kernel(self) -> Tensor:
        """The one kernel, the last tap is the present, shape ``(D, D, 128)``."""
        return collapse([conv.weight for conv in self._convs])

    def bias(self) -> Tensor:
        """The one bias, shape ``(D,)``."""
        return torch.stack([conv.bias for conv in self._convs if conv.bias is not None]).mean(0)

    @property
    def _convs(self) -> list[nn.Conv1d]:
        return [conv for conv in self.convs if isinstance(conv, nn.Conv1d)]

    def _direct(self, u: Tensor) -> Tensor:
        channels = u.mT
        found = [conv(channels[..., TAPS - scale :]) for conv, scale in zip(self._convs, SCALES, strict=True)]
        return torch.stack(found).mean(0).mT

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"mode={self.mode!r}"


class FixedTrend:
    """A trend head whose weights are read once: for streams and passes over long series.

    Args:
        head: Where the weights come from.
    """

    past = TAPS - 1
    # From here on the spectrum, 210 MB at 320 channels, is read faster than the taps are multiplied.
    _MANY = 64

    def __init__(self, head: TrendHead) -> None:
        with torch.no_grad():
            self._kernel, self._bias = head.kernel(), head.bias()
        self._flat = self._kernel.flatten(1).mT
        self._spectra: dict[int, Tensor] = {}

    def continued(self, u: Tensor) -> Tensor:
        """As :meth:`TrendHead.continued`, without gradients.

        Args:
            u: Shape ``(B, 127 + T, D)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        steps = u.shape[1] - self.past
        if steps == 1:
            return torch.addmm(self._bias, u.mT.flatten(1), self._flat)[:, None]
        if len(u) * steps < self._MANY:
            return convolution(u, self._kernel) + self._bias
        size = transform_size(u.shape[1])
        if size not in self._spectra:
            self._spectra = {size: kernel_spectrum(self._kernel, size)}  # one at a time: they are large
        return fourier_convolution(u, self._kernel, self._spectra[size]) + self._bias
