"""Residual networks for small images: ResNet-32 of CIFAR, and ResNet-18 with a stem that keeps the pixels.

ResNet-32 is that of He et al. (CVPR 2016, section 4.2): a 3 x 3 convolution, three stages of five blocks with 16, 32
and 64 channels, shortcuts without parameters (option A). ResNet-18 is that of their table 1 in the form used for small
images (Chen et al., ICML 2020, appendix B.9): the first convolution is 3 x 3 with stride 1, nothing is pooled behind
it, and shortcuts that change the shape are 1 x 1 convolutions (option B).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.encoders.weights import draw_weights
from nearfar.errors import ConfigError
from nearfar.runtime import isolated_rng

Shortcut: TypeAlias = Literal["padding", "convolution"]


class ResNet(nn.Module):
    """Stages of basic blocks; the first block of every stage but the first halves the image.

    Args:
        widths: Channels of the stages.
        blocks: Blocks of each stage.
        channels: Channels of an image.
        shortcut: Where a block changes the shape: ``padding`` takes every second pixel and adds channels of zeros
            (option A), ``convolution`` is a 1 x 1 convolution with batch norm (option B).
        generator: Source of the initial weights.

    Attributes:
        dim: Length of a representation, all numbers at least 0.

    Raises:
        ConfigError: If a size is below 1, or there is no such shortcut.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: Sequence[int],
        *,
        channels: int = 3,
        shortcut: Shortcut = "padding",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(blocks) or min(*widths, *blocks, channels) < 1:
            raise ConfigError(
                "widths: a number of at least 1 for every stage expected, and as many blocks, got "
                f"{tuple(widths)} and {tuple(blocks)} with {channels} channels"
            )
        if shortcut not in ("padding", "convolution"):
            raise ConfigError(f"shortcut: 'padding' or 'convolution' expected, got {shortcut!r}")
        self.channels, self.dim = channels, widths[-1]
        with isolated_rng():
            self.stem = nn.Sequential(_convolution(channels, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU())
            layers: list[nn.Module] = []
            before = widths[0]
            for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
                for block in range(count):
                    stride = 2 if stage and not block else 1
                    layers.append(BasicBlock(before, width, stride, shortcut))
                    before = width
            self.blocks = nn.Sequential(*layers)
        draw_weights(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Representations: means over all pixels behind the last ReLU.

        Args:
            images: Shape ``(B, channels, H, W)``.

        Returns:
            Shape ``(B, dim)``.
        """
        states: Tensor = self.blocks(self.stem(images))
        return states.mean((2, 3))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and what goes past them.

    Args:
        before: Channels that come in.
        after: Channels that go out.
        stride: Of the first convolution.
        shortcut: As of :class:`ResNet`.
    """

    def __init__(self, before: int, after: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.stride, self.added = stride, after - before
        self.first, self.second = _convolution(before, after, stride), _convolution(after, after)
        self.first_norm, self.second_norm = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.past: nn.Module | None = None
        if shortcut == "convolution" and (stride > 1 or before != after):
            self.past = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Transform states.

        Args:
            x: Shape ``(B, before, H, W)``.

        Returns:
            Shape ``(B, after, H', W')``.
        """
        y = self.second_norm(self.second(self.first_norm(self.first(x)).relu()))
        if self.past is not None:
            x = self.past(x)
        else:
            x = x[:, :, :: self.stride, :: self.stride] if self.stride > 1 else x
            # As many zeros before the channels as behind them.
            x = F.pad(x, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2)) if self.added else x
        found: Tensor = (x + y).relu()
        return found


def resnet32(channels: int = 3, *, generator: torch.Generator | None = None) -> ResNet:
    """ResNet-32 for images of 32 x 32 pixels, 64 numbers a representation.

    Args:
        channels: Channels of an image.
        generator: Source of the initial weights.

    Example:
        >>> resnet32().dim
        64
    """
    return ResNet((16, 32, 64), (5, 5, 5), channels=channels, generator=generator)


def resnet18(channels: int = 3, *, generator: torch.Generator | None = None) -> ResNet:
    """ResNet-18 for small images, 512 numbers a representation.

    Args:
        channels: Channels of an image.
        generator: Source of the initial weights.

    Example:
        >>> resnet18().dim
        512
    """
    return ResNet(
        (64, 128, 256, 512), (2, 2, 2, 2), channels=channels, shortcut="convolution", generator=generator
    )


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
