r"""Exact draws from Gaussians whose covariances are sums of thin factors.

.. math:: v = \mu + \sum_c \sqrt{s_c} F_c^\top \varepsilon_c + \sqrt\alpha \, \xi

with independent standard normal \varepsilon_c, and \xi one number for all features (a ridge of ones) or one for each
(the identity). The law is N(\mu, \sum_c s_c F_c^\top F_c + \alpha R) exactly, singular or not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.augment.draws import normal
from nearfar.calibration.gaussians.composition import Composition
from nearfar.calibration.gaussians.factors import CovarianceFactors
from nearfar.runtime import to_device

# Normal numbers of one piece of a large request.
BLOCK = 2**24


def draw_rows(
    means: Tensor,
    factors: CovarianceFactors,
    composition: Composition,
    codes: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """One draw for every wanted class.

    A batch takes one product for each class whose factor it needs, and three copies to the device; nothing waits for
    the device.

    Args:
        means: Shape ``(K, m)``, dtype of the factors, on their device.
        factors: Of the covariances of all classes.
        composition: Which of them are added up for a class.
        codes: Wanted classes, int64 of the CPU, shape ``(B,)``.
        generator: Source of the draws.

    Returns:
        Shape ``(B, m)``, dtype and device of ``means``.
    """
    sources = composition.sources
    ranks = factors.ranks[sources.clamp_min(0)] * (composition.shares > 0)
    widths = ranks.sum(1) + composition.ridge_width(means.shape[1]) * composition.ridged
    widest = int(widths.max()) if len(widths) else 0
    pieces = [
        _piece(means, factors, composition, ranks, piece, generator)
        for piece in codes.split(max(BLOCK // max(widest, 1), 1))
    ]
    return torch.cat(pieces) if len(pieces) != 1 else pieces[0]


def _piece(
    means: Tensor,
    factors: CovarianceFactors,
    composition: Composition,
    ranks: Tensor,
    codes: Tensor,
    generator: torch.Generator,
) -> Tensor:
    dim = means.shape[1]
    # Every (row, source) with something to draw, the rows of one source next to each other.
    rows, places = (ranks[codes] > 0).nonzero(as_tuple=True)
    wanted = composition.sources[codes[rows], places]
    order = wanted.argsort(stable=True)
    rows, places, wanted = rows[order], places[order], wanted[order]
    found, counts = torch.unique_consecutive(wanted, return_counts=True)
    sources, sizes = found.tolist(), counts.tolist()
    ridge_width = composition.ridge_width(dim)
    ridged = composition.ridged[codes].nonzero()[:, 0] if ridge_width else codes[:0]

    amounts = composition.shares[codes[rows], places].sqrt().to(means.dtype)
    shapes = [(size, int(factors.ranks[source])) for source, size in zip(sources, sizes, strict=True)]
    shapes.append((len(ridged), ridge_width))
    lengths = [size * width for size, width in shapes]
    noise = normal((sum(lengths),), means, generator).split(lengths)
    indices = to_device(torch.cat([codes, rows, ridged]), means.device)
    at, rows, ridged = indices.split([len(codes), len(rows), len(ridged)])
    amounts = to_device(amounts, means.device).unsqueeze(1)

    drawn = means[at]
    for source, shape, numbers, where, amount in zip(
        sources, shapes, noise, rows.split(sizes), amounts.split(sizes), strict=False
    ):
        drawn.index_add_(0, where, (numbers.view(shape) * amount) @ factors[source])
    if ridge_width:
        drawn.index_add_(
            0, ridged, (noise[-1].view(shapes[-1]) * math.sqrt(composition.alpha)).expand(-1, dim)
        )
    return drawn
