"""A trend head of 0.1 instead of 26 million weights: causal means per channel, then one mixing layer.

Not in the paper. Every channel weighs its means over the last 1, 2, 4, ..., 128 steps; the channels are mixed after it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.timeseries.encoder.collapsed import SCALES, TAPS


class LightTrendHead(nn.Module):
    """Weighted causal means of every channel, mixed.

    Args:
        dim: Channels in and out.
    """

    past = TAPS - 1

    def __init__(self, dim: int) -> None:
        super().__init__()
        # A depthwise convolution over the scales, never called: it has the weights, initialised as usual.
        self.scales = nn.Conv1d(dim, dim, len(SCALES), groups=dim, bias=False)
        self.mix = nn.Linear(dim, dim)

    def forward(self, u: Tensor) -> Tensor:
        """Trend of every step.

        Args:
            u: Output of the trunk, shape ``(B, T, D)``; zeros precede it.

        Returns:
            Shape ``(B, T, D)``.
        """
        return self.mix(self._means(u.mT).mT)  # type: ignore[no-any-return]

    def continued(self, u: Tensor) -> Tensor:
        """Trend of the steps after the first 127.

        Args:
            u: Shape ``(B, 127 + T, D)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        return self.mix(self._means(u.mT)[..., self.past :].mT)  # type: ignore[no-any-return]

    def _means(self, u: Tensor) -> Tensor:
        r"""Weighted sum over the scales, ``(B, D, T)``.

        The mean over 2k steps is the mean of two means over k, k steps apart: :math:`A_{2k} = M_k A_k`. Nested,
        :math:`\sum_k w_k A_k u = w_1 u + M_1 (w_2 u + M_2 (w_4 u + \dots))`, every step is read eight times, rounding
        does not accumulate as it does in differences of cumulative sums, and autograd keeps nothing but u.
        """
        weights = self.scales.weight[:, 0].unbind(1)
        found = weights[-1][:, None] * u
        for scale, weight in zip(reversed(SCALES[:-1]), reversed(weights[:-1]), strict=True):
            half = found / 2
            found = weight[:, None] * u + half
            if scale < u.shape[2]:
                found = found + F.pad(half[..., :-scale], (scale, 0))
        return found


class FixedLightTrend:
    """A light trend head whose weights are read once: for streams.

    Args:
        head: Where the weights come from.
    """

    def __init__(self, head: LightTrendHead) -> None:
        self._head = head
        with torch.no_grad():
            weights = head.scales.weight[:, 0]  # (D, 8)
            lag = torch.arange(TAPS - 1, -1, -1, device=weights.device)
            parts = [(lag < scale).to(weights) / scale for scale in SCALES]
            self._taps = torch.stack(parts, dim=1) @ weights.mT  # (128, D)

    def continued(self, u: Tensor) -> Tensor:
        """As :meth:`LightTrendHead.continued`, without gradients.

        Args:
            u: Shape ``(B, 127 + T, D)``.

        Returns:
            Shape ``(B, T, D)``.
        """
        if u.shape[1] > TAPS:
            return self._head.continued(u)
        return self._head.mix((u * self._taps).sum(1, keepdim=True))  # type: ignore[no-any-return]
