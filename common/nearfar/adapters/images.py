"""Images in memory, changed a batch at a time by the augmentations of :mod:`nearfar.augment.images`.

Strong views are SimCLR's (Chen et al., ICML 2020, appendix A): resized crop, flip, colour jitter, grey. Images of one
channel get the crop, the flip, and the brightness and contrast of the jitter. Weak changes are those of He et al.
(CVPR 2016, section 4.2): a crop after padding, and the flip.

Batches stay in [0, 1] all along; whoever wants mean 0 and standard deviation 1 puts
:class:`nearfar.encoders.Standardised` around the encoder.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nearfar.adapters.arrays import as_tensor, check_finite
from nearfar.adapters.convex import convex
from nearfar.adapters.inputs import Inputs
from nearfar.augment.draws import normal
from nearfar.augment.images import color_jitter, flip, grayscale, padded_crop, resized_crop
from nearfar.errors import ConfigError, DataError


class ImageInputs(Inputs):
    """Images of one or three channels.

    Args:
        images: Tensor or array, shape ``(N, C, H, W)`` with C 1 or 3: floating point in [0, 1], or uint8, which stay
            uint8 in memory.
        scale: Least and largest area of the crop of a strong view, as a share of the image.
        strength: Factor on the jitter of brightness, contrast and saturation of 0.8 each, in [0, 2.5].
        hue: Largest turn of the colours, as a share of the circle, in [0, 0.5]; above 0 it needs kornia, and SimCLR's
            is 0.2 times ``strength``. Three channels only.
        grey: Probability that a strong view is grey, in [0, 1]; three channels only.
        noise: Standard deviation of normal noise on every value of a strong view, at least 0.
        flips: Whether images may be mirrored left to right: not digits or text.
        padding: Pixels a weak view may be moved by, at least 0; 4 suits 32 x 32 pixels, 1 suits 8 x 8.

    Attributes:
        images: Shape ``(N, C, H, W)``, float32 or uint8, on the CPU.

    Raises:
        DataError: If these are no such images.
        ConfigError: If a setting makes no sense.

    Example:
        >>> inputs = ImageInputs(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))
        >>> batch = inputs.rows(torch.tensor([1]))
        >>> batch.shape, batch.max().item()
        (torch.Size([1, 3, 8, 8]), 1.0)
    """

    def __init__(
        self,
        images: Any,
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        strength: float = 0.5,
        hue: float = 0.0,
        grey: float = 0.2,
        noise: float = 0.0,
        flips: bool = True,
        padding: int = 4,
    ) -> None:
        self.images = _images(images)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"scale: 0 < least <= largest <= 1 expected, got {scale}")
        for name, value, high in (
            ("strength", strength, 2.5),
            ("hue", hue, 0.5),
            ("grey", grey, 1.0),
            ("noise", noise, 1.0),
            ("padding", padding, 2**15),
        ):
            if not 0 <= value <= high:
                raise ConfigError(f"{name}: 0 to {high:g} expected, got {value}")
        self.scale, self.strength, self.hue, self.grey = scale, strength, hue, grey
        self.noise, self.flips, self.padding = noise, flips, padding

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: Tensor) -> Tensor:
        """Some images.

        Args:
            index: Numbers of images, int64, shape ``(B,)``.

        Returns:
            In [0, 1], float32, shape ``(B, C, H, W)``.
        """
        chosen = self.images.index_select(0, index)
        return chosen.to(torch.float32) / 255 if chosen.dtype == torch.uint8 else chosen

    def weak(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Images moved by a few pixels, and mirrored if they may be.

        Args:
            batch: In [0, 1], shape ``(B, C, H, W)``.
            generator: Source of every draw.

        Returns:
            Same shape.
        """
        moved = padded_crop(batch, generator, padding=self.padding) if self.padding else batch
        return flip(moved, generator) if self.flips else moved

    def two_views(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two independent strong views of every image.

        Args:
            batch: In [0, 1], shape ``(B, C, H, W)``.
            generator: Source of every draw.

        Returns:
            Two tensors of the same shape, in [0, 1].
        """
        return self._view(batch, generator), self._view(batch, generator)

    def mix(self, batch: Tensor, order: Tensor, share: Tensor) -> Tensor:
        """The convex combination of every image with its partner.

        Args:
            batch: Shape ``(B, C, H, W)``.
            order: Partners, int64, shape ``(B,)``.
            share: Of the image itself, a scalar or shape ``(B,)``.
        """
        return convex(batch, order, share)

    def _view(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        view = resized_crop(batch, generator, scale=self.scale)
        if self.flips:
            view = flip(view, generator)
        jitter, colour = 0.8 * self.strength, batch.shape[1] == 3
        # One channel, three times: the luminance of equal channels is that channel.
        view = color_jitter(
            view if colour else view.expand(-1, 3, -1, -1),
            generator,
            brightness=jitter,
            contrast=jitter,
            saturation=jitter if colour else 0.0,
            hue=self.hue if colour else 0.0,
        )
        view = grayscale(view, generator, p=self.grey) if colour else view[:, :1]
        if self.noise:
            view = (view + self.noise * normal(view.shape, view, generator)).clamp(0, 1)
        return view


def _images(images: Any) -> Tensor:
    x = as_tensor("images", images)
    if x.dim() != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        raise DataError(
            f"images: shape (N, C, H, W) with C = 1 or 3 channels expected, got {tuple(x.shape)}; channels come "
            "first, and images without a channel axis need one: images[:, None]"
        )
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise DataError(f"images: floating point in [0, 1] or uint8 expected, got {x.dtype}; convert them")
    x = x.to(torch.float32)
    check_finite("images", x, ("image", "channel", "row", "column"))
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise DataError(
            f"images: values in [0, 1] expected, got {low:g} to {high:g}; divide by the largest value possible, and "
            "leave standardising to nearfar.encoders.Standardised"
        )
    return x
