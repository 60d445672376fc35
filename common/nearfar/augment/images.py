"""SimCLR's augmentations of images (Chen et al., ICML 2020, appendix A), drawn per image, a batch at a time.

Images are floating point in [0, 1]. Parameters come from the generator given; hue is turned by kornia's
functional interface, everything else is plain PyTorch.

Differs from the official code: brightness is a factor (its second version; the first one adds), colours are
changed in the fixed order of the paper's listing, without its optional shuffling, and values are clamped after each
change. No antialiasing where a crop is larger than the output. Blur is left out (the paper does not use it on
CIFAR-10).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.augment.draws import integers, uniform
from nearfar.augment.interpolation import interpolate
from nearfar.augment.strength import Strength, check_strength, per_sample
from nearfar.optional import require

__all__ = [
    "color_jitter",
    "flip",
    "grayscale",
    "padded_crop",
    "resized_crop",
    "two_views",
]

SCALE, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
_NUM_ATTEMPTS = 10
_LUMINANCE = (0.299, 0.587, 0.114)


def resized_crop(
    images: Tensor,
    generator: torch.Generator,
    *,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float] = SCALE,
    aspect: tuple[float, float] = ASPECT,
    p: Strength = 1.0,
) -> Tensor:
    """Cut out a box of random area and shape and resize it bilinearly.

    Area is uniform and the logarithm of width / height is uniform; of ten proposals the first one that
    fits into the image counts, else the largest centred box of an allowed shape.

    Args:
        images: Shape ``(B, C, H, W)``.
        generator: Source of every draw.
        size: Height and width of the result; ``None`` keeps them.
        scale: Least and largest area of the box, as a share of the image.
        aspect: Least and largest width / height.
        p: Probability for an image; the others are resized whole. A number or shape ``(B,)``.

    Returns:
        Shape ``(B, C, *size)``.

    Raises:
        ValueError: If an argument makes no sense.

    Example:
        >>> images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> whole = resized_crop(images, torch.Generator(), scale=(1.0, 1.0), aspect=(1.0, 1.0))
        >>> torch.equal(whole, images)
        True
    """
    _check_images(images)
    check_strength("p", p)
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale: 0 < least <= largest <= 1 expected, got {scale}")
    if not 0 < aspect[0] <= aspect[1]:
        raise ValueError(f"aspect: 0 < least <= largest expected, got {aspect}")
    height, width = images.shape[2:]
    target = (height, width) if size is None else size
    if min(target) < 1:
        raise ValueError(f"size: positive numbers expected, got {size}")
    top, left, box_height, box_width = _boxes(images, generator, scale, aspect)
    applied = _applied(images, generator, p, 2)
    rows = _places(torch.where(applied, top, 0), torch.where(applied, box_height, height), target[0], images)
    columns = _places(
        torch.where(applied, left, 0), torch.where(applied, box_width, width), target[1], images
    )
    return _resampled(_resampled(images, rows).mT, columns).mT


def flip(images: Tensor, generator: torch.Generator, *, p: Strength = 0.5) -> Tensor:
    """Mirror images left to right.

    Args:
        images: Shape ``(B, C, H, W)``.
        generator: Source of every draw.
        p: Probability for an image; a number or shape ``(B,)``.

    Example:
        >>> flip(torch.tensor([[[[1.0, 2.0]]]]), torch.Generator(), p=1.0).flatten().tolist()
        [2.0, 1.0]
    """
    _check_images(images)
    check_strength("p", p)
    return torch.where(_applied(images, generator, p, 4), images.flip(3), images)


def padded_crop(images: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """Move images by up to ``padding`` pixels each way; zeros come in (He et al., CVPR 2016, section 4.2).

    The same as padding all four sides and cutting out a box of the old size at a uniform place.

    Args:
        images: Shape ``(B, C, H, W)``.
        generator: Source of every draw.
        padding: Pixels, at least 0.

    Returns:
        Shape ``(B, C, H, W)``.

    Raises:
        ValueError: If an argument makes no sense.

    Example:
        >>> images = torch.ones(1, 1, 3, 3)
        >>> torch.equal(padded_crop(images, torch.Generator(), padding=0), images)
        True
    """
    _check_images(images)
    if padding < 0:
        raise ValueError(f"padding: at least 0 expected, got {padding}")
    count, channels, height, width = images.shape
    places = torch.full((2, count, 1), 2 * padding + 1, device=images.device)
    top, left = integers(places, generator)
    rows = (top + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (left + torch.arange(width, device=images.device))[:, None, None, :]
    padded = F.pad(images, (padding,) * 4)
    cut = padded.gather(2, rows.expand(-1, channels, -1, padded.shape[3]))
    return cut.gather(3, columns.expand(-1, channels, height, -1))


def grayscale(images: Tensor, generator: torch.Generator, *, p: Strength = 0.2) -> Tensor:
    """Replace colours by their luminance, 0.299 R + 0.587 G + 0.114 B.

    Args:
        images: Shape ``(B, 3, H, W)``.
        generator: Source of every draw.
        p: Probability for an image; a number or shape ``(B,)``.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
        >>> [round(value, 3) for value in grayscale(red, torch.Generator(), p=1.0).flatten().tolist()]
        [0.299, 0.299, 0.299]
    """
    _check_images(images, colour=True)
    check_strength("p", p)
    return torch.where(_applied(images, generator, p, 4), _luminance(images), images)


def color_jitter(
    images: Tensor,
    generator: torch.Generator,
    *,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    p: Strength = 0.8,
) -> Tensor:
    """Change brightness, contrast, saturation and hue by random amounts, in this order.

    A factor f is uniform on [max(0, 1 - s), 1 + s] for a strength s. Brightness multiplies by f; contrast
    moves every value away from the mean luminance of the image by f, saturation away from the luminance
    of its pixel. Hue turns the colours by a uniform share of the circle within +- ``hue``.

    Args:
        images: Values in [0, 1], shape ``(B, 3, H, W)``.
        generator: Source of every draw.
        brightness: At least 0; 0 leaves it alone, as below.
        contrast: At least 0.
        saturation: At least 0.
        hue: In [0, 0.5]; needs kornia unless 0.
        p: Probability for an image; a number or shape ``(B,)``.

    Returns:
        Values in [0, 1], shape ``(B, 3, H, W)``; images the jitter is not applied to are exactly as before.

    Example:
        >>> grey = torch.full((1, 3, 2, 2), 0.25)
        >>> out = color_jitter(grey, torch.Generator(), brightness=0.0, p=1.0)  # nothing else shows
        >>> torch.allclose(out, grey)
        True
    """
    _check_images(images, colour=True)
    check_strength("p", p)
    for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        check_strength(name, value, 0, math.inf)
    check_strength("hue", hue, 0, 0.5)
    applied = _applied(images, generator, p, 4)

    def factor(strength: float) -> Tensor:
        low = max(0.0, 1 - strength)
        return low + (1 + strength - low) * uniform((len(images), 1, 1, 1), images, generator)

    new = images
    if brightness:
        new = (new * factor(brightness)).clamp(0, 1)
    if contrast:
        mean = _luminance(new).mean((2, 3), keepdim=True)
        new = torch.lerp(mean.expand_as(new), new, factor(contrast)).clamp(0, 1)
    if saturation:
        new = torch.lerp(_luminance(new).expand_as(new), new, factor(saturation)).clamp(0, 1)
    if hue:
        turn: Callable[[Tensor, Tensor], Tensor] = require("kornia.enhance", "changing the hue").adjust_hue
        angle = (2 * uniform((len(images),), images, generator) - 1) * hue * math.tau
        new = turn(new, angle).clamp(0, 1)
    return torch.where(applied, new, images)


def two_views(
    images: Tensor,
    generator: torch.Generator,
    *,
    size: tuple[int, int] | None = None,
    scale: tuple[float, float] = SCALE,
    strength: float = 1.0,
    jitter_p: Strength = 0.8,
) -> tuple[Tensor, Tensor]:
    """Two independent views of every image: crop, flip, colour jitter, grayscale.

    Args:
        images: Values in [0, 1], shape ``(B, 3, H, W)``.
        generator: Source of every draw.
        size: Height and width of the views; ``None`` keeps them.
        scale: Least and largest area of a crop, as a share of the image.
        strength: Factor on the colour jitter of (0.8, 0.8, 0.8, 0.2), in [0, 2.5]; the paper takes 1 for
            ImageNet and 0.5 for CIFAR-10.
        jitter_p: Probability of the colour jitter; a number or shape ``(B,)``.

    Returns:
        Two tensors of shape ``(B, 3, *size)``.

    Example:
        >>> images = torch.full((4, 3, 8, 8), 0.5)
        >>> first, second = two_views(images, torch.Generator().manual_seed(0), strength=0.5)
        >>> first.shape, torch.equal(first, second)
        (torch.Size([4, 3, 8, 8]), False)
    """
    check_strength("strength", strength, 0, 2.5)
    views = []
    for _ in range(2):
        view = flip(resized_crop(images, generator, size=size, scale=scale), generator)
        view = color_jitter(
            view,
            generator,
            brightness=0.8 * strength,
            contrast=0.8 * strength,
            saturation=0.8 * strength,
            hue=0.2 * strength,
            p=jitter_p,
        )
        views.append(grayscale(view, generator))
    return views[0], views[1]


def _check_images(images: Tensor, *, colour: bool = False) -> None:
    channels = "3" if colour else "C"
    right = images.dim() == 4 and images.numel() > 0 and (not colour or images.shape[1] == 3)
    if not right or images.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"images: float32 or float64 of shape (B, {channels}, H, W) expected, "
            f"got {images.dtype} of {tuple(images.shape)}"
        )


def _applied(images: Tensor, generator: torch.Generator, p: Strength, num_dims: int) -> Tensor:
    draw = uniform((len(images), *[1] * (num_dims - 1)), images, generator)
    return draw < per_sample("p", p, images, num_dims)


def _luminance(images: Tensor) -> Tensor:
    # Numbers, not a tensor of them, which a GPU would be waited for to receive.
    red, green, blue = (
        weight * channel for weight, channel in zip(_LUMINANCE, images.split(1, 1), strict=True)
    )
    total: Tensor = red + green + blue
    return total


def _boxes(
    images: Tensor, generator: torch.Generator, scale: tuple[float, float], aspect: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of the box of every image, each of shape ``(B, 1)``, whole numbers."""
    height, width = images.shape[2:]
    draw = uniform((4, len(images), _NUM_ATTEMPTS), images, generator)
    area = (scale[0] + (scale[1] - scale[0]) * draw[0]) * height * width
    shape = (math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draw[1]).exp()
    tall, wide = (area / shape).sqrt().round(), (area * shape).sqrt().round()
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    chosen = fits.int().argmax(1, keepdim=True)  # the first one
    box_height, box_width = tall.gather(1, chosen), wide.gather(1, chosen)
    top = (draw[2].gather(1, chosen) * (height - box_height + 1)).floor()
    left = (draw[3].gather(1, chosen) * (width - box_width + 1)).floor()
    # What remains if none fits: the whole image, cut to the nearest allowed shape.
    rest_width = min(width, max(1, round(height * aspect[1])))
    rest_height = min(height, max(1, round(width / aspect[0])))
    rest = ((height - rest_height) // 2, (width - rest_width) // 2, rest_height, rest_width)
    found = fits.any(1, keepdim=True)
    box = (
        torch.where(found, ours, other)
        for ours, other in zip((top, left, box_height, box_width), rest, strict=True)
    )
    return next(box), next(box), next(box), next(box)


def _resampled(images: Tensor, places: Tensor) -> Tensor:
    """Rows of every image read at ``places``, shape ``(B, S)``, which gives shape ``(B, C, S, W)``."""
    by_row = images.transpose(1, 2)
    return interpolate(by_row.flatten(2), places).view(len(places), -1, *by_row.shape[2:]).transpose(1, 2)


def _places(start: Tensor, extent: Tensor, num_steps: int, images: Tensor) -> Tensor:
    """Where to read for every step of the result, shape ``(B, num_steps)``; pixels are unit squares."""
    step = torch.arange(num_steps, device=images.device).to(images.dtype)
    inside = (step + 0.5) * (extent / num_steps) - 0.5
    return start + torch.minimum(inside.clamp(min=0), extent - 1)
