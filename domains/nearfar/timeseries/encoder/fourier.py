"""A long convolution in the frequency domain, cut into pieces where the series is long (overlap-save).

One product of matrices for every frequency replaces one for every tap. Everything is real: the spectrum of a kernel
much shorter than the transform is a product with a matrix of cosines and sines, which is faster than the transform of
its zeros, and it is laid out as that product leaves it. Plain operations, so autograd has the gradients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Transforms of up to LONGEST steps are taken whole; longer series in pieces, whose spectra have a fixed memory.
LONGEST, PIECE = 768, 512


def transform_size(steps: int) -> int:
    """Length of the transforms that :func:`fourier_convolution` takes of so many steps.

    Args:
        steps: Steps with their past, ``k - 1 + T``.

    Example:
        >>> transform_size(257 + 127), transform_size(101), transform_size(5000)
        (384, 108, 512)
    """
    if steps > LONGEST:
        return PIECE
    size = steps + steps % 2
    while not _smooth(size):
        size += 2
    return size


def _smooth(size: int) -> bool:
    for factor in (2, 3, 5):
        while size % factor == 0:
            size //= factor
    return size == 1


def kernel_spectrum(kernel: Tensor, size: int) -> Tensor:
    """Real above imaginary part of the spectrum of every frequency.

    Args:
        kernel: The last tap is the present, shape ``(D_out, D_in, k)``.
        size: Length of the transform, even.

    Returns:
        Shape ``(size / 2 + 1, 2 * D_out, D_in)``.
    """
    outputs, inputs, taps = kernel.shape
    lag = torch.arange(taps - 1, -1, -1, device=kernel.device, dtype=torch.float64)
    frequency = torch.arange(size // 2 + 1, device=kernel.device, dtype=torch.float64)
    angle = (frequency[:, None] * lag) % size * (2 * math.pi / size)
    waves = torch.stack([angle.cos(), -angle.sin()], dim=1).flatten(0, 1).to(kernel.dtype)
    # (2m, k) x (k, D_out * D_in); the transposed view costs nothing.
    return (waves @ kernel.reshape(-1, taps).mT).view(-1, 2 * outputs, inputs)


def fourier_convolution(u: Tensor, kernel: Tensor, spectrum: Tensor | None = None) -> Tensor:
    """Equal to :func:`nearfar.timeseries.encoder.collapsed.convolution` up to rounding.

    Args:
        u: Shape ``(B, k - 1 + T, D_in)``.
        kernel: The last tap is the present, shape ``(D_out, D_in, k)``.
        spectrum: The kernel's for ``transform_size(k - 1 + T)``, where it is known already,
            shape ``(size / 2 + 1, 2 * D_out, D_in)``.

    Returns:
        Shape ``(B, T, D_out)``.
    """
    past, total = kernel.shape[2] - 1, u.shape[1]
    size = transform_size(total)
    if spectrum is None:
        spectrum = kernel_spectrum(kernel, size)
    if total <= LONGEST:
        return _product(u.transpose(0, 1), spectrum, size)[past:total].transpose(0, 1)
    fresh = size - past
    count = -(-(total - past) // fresh)
    padded = torch.nn.functional.pad(u, (0, 0, 0, count * fresh + past - total))
    pieces = padded.unfold(1, size, fresh)  # (B, count, D_in, size)
    y = _product(pieces.permute(3, 0, 1, 2).flatten(1, 2), spectrum, size)[past:]
    return y.view(fresh, len(u), count, -1).permute(1, 2, 0, 3).flatten(1, 2)[:, : total - past]


def _product(u: Tensor, spectrum: Tensor, size: int) -> Tensor:
    """Circular convolution along the first axis: ``(T, B, D_in)`` to ``(size, B, D_out)``."""
    found = torch.fft.rfft(u, size, dim=0)
    rows, outputs = u.shape[1], spectrum.shape[1] // 2
    products = torch.cat([found.real, found.imag], dim=1) @ spectrum.mT  # (m, 2B, 2 D_out)
    of_real, of_imag = products.split(rows, dim=1)
    real = of_real[..., :outputs] - of_imag[..., outputs:]
    imag = of_real[..., outputs:] + of_imag[..., :outputs]
    y: Tensor = torch.fft.irfft(torch.complex(real, imag), size, dim=0)
    return y
