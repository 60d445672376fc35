"""Dilated convolutions over time: the encoder of TS2Vec (Yue et al., AAAI 2022) and the lower part of AutoTCL's.

A linear layer at every step, then residual blocks of two convolutions with kernel 3 and dilation 1, 2, 4, ...; exact
GELU before each convolution, no normalisation layers. Modules are made in the order of the published programs, and
initialised as PyTorch does, so a seed gives the weights it gives there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 3


class DilatedConv(nn.Conv1d):
    """Convolution with kernel 3 that keeps the length; zeros are around the series, or before it if causal.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        dilation: Steps between taps.
        causal: Whether no step hears a later one.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int, *, causal: bool) -> None:
        super().__init__(in_channels, out_channels, KERNEL, dilation=dilation)
        self.step, self.causal = dilation, causal

    # The first parameter has the name it has in the class above.
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Convolve.

        Args:
            input: Shape ``(B, C_in, T)``.

        Returns:
            Shape ``(B, C_out, T)``.
        """
        step, weight, steps = self.step, self.weight, input.shape[2]
        if not self.causal:
            # The outer taps hear nothing but zeros in a series no longer than the dilation.
            if step >= steps:
                return F.conv1d(input, weight[..., 1:2], self.bias)
            return F.conv1d(input, weight, self.bias, padding=step, dilation=step)
        heard = min(1 + (steps - 1) // step, KERNEL)
        padded = F.pad(input, ((heard - 1) * step, 0))
        return F.conv1d(padded, weight[..., KERNEL - heard :], self.bias, dilation=step)


class ConvBlock(nn.Module):
    """Two convolutions and a way around them.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        dilation: Steps between taps.
        causal: Whether no step hears a later one.
        final: Whether it is the last block, whose way around is a layer even where the channels are the same.
    """

    def __init__(
        self, in_channels: int, out_channels: int, dilation: int, *, causal: bool, final: bool
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv1 = DilatedConv(in_channels, out_channels, dilation, causal=causal)
        self.conv2 = DilatedConv(out_channels, out_channels, dilation, causal=causal)
        self.skip = nn.Conv1d(in_channels, out_channels, 1) if final or in_channels != out_channels else None

    def forward(self, h: Tensor) -> Tensor:
        """Apply the block.

        Args:
            h: Shape ``(B, C_in, T)``.

        Returns:
            Shape ``(B, C_out, T)``.
        """
        inner: Tensor = self.conv2(F.gelu(self.conv1(F.gelu(h))))
        return inner + self.around(h)

    def around(self, h: Tensor) -> Tensor:
        """The way around the convolutions.

        Args:
            h: Shape ``(B, C_in, T)``.

        Returns:
            Shape ``(B, C_out, T)``.
        """
        return h if self.skip is None else self.skip(h)


class Trunk(nn.Module):
    """Linear layer, hidden mask, ``depth + 1`` blocks.

    Args:
        num_channels: Channels of a series.
        dim: Channels out.
        hidden: Channels of all blocks but the last.
        depth: Dilation of the last block as a power of two.
        causal: Whether no step hears a later one.

    Example:
        >>> Trunk(3, dim=5, hidden=4, depth=2)(torch.zeros(2, 7, 3)).shape
        torch.Size([2, 7, 5])
    """

    def __init__(
        self, num_channels: int, *, dim: int = 320, hidden: int = 64, depth: int = 10, causal: bool = False
    ) -> None:
        super().__init__()
        self.dim, self.causal = dim, causal
        self.inputs = nn.Linear(num_channels, hidden)
        self.blocks = nn.ModuleList(
            ConvBlock(hidden, dim if i == depth else hidden, 2**i, causal=causal, final=i == depth)
            for i in range(depth + 1)
        )

    @property
    def reach(self) -> int:
        """Steps to one side of an output that it hears, or to the past if causal."""
        per_dilation = 4 if self.causal else 2
        return per_dilation * ((1 << len(self.blocks)) - 1)

    def forward(self, x: Tensor, hidden_mask: Tensor | None = None) -> Tensor:
        """Encode every step.

        Args:
            x: Series, may have NaN, shape ``(B, T, F)``.
            hidden_mask: Steps to keep, bool, shape ``(B, T, 1)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        h = self.enter(x, hidden_mask)
        for block in self.blocks:
            h = block(h)
        return h.mT

    def enter(self, x: Tensor, hidden_mask: Tensor | None = None) -> Tensor:
        """First layer; exact zeros in hidden steps and in those with a NaN.

        Args:
            x: Series, may have NaN, shape ``(B, T, F)``.
            hidden_mask: Steps to keep, bool, shape ``(B, T, 1)``.

        Returns:
            Shape ``(B, C, T)``.
        """
        missing = x.isnan()
        kept = ~missing.any(2, keepdim=True)
        if hidden_mask is not None:
            kept = kept & hidden_mask
        # NaN must not reach the product either: zero times NaN would be its gradient.
        h = self.inputs(torch.where(missing, 0, x))
        return torch.where(kept, h, 0).mT
