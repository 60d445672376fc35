"""Operations that scale values or add to them; magnitude warping follows Um et al. (ICMI 2017).

Differs from the released program of AutoTCL: its magnitude warp stretches the feature axis; here it scales.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp
from nearfar.augment.series.view import ViewParams
from nearfar.augment.strength import Strength, check_strength


@dataclass(frozen=True)
class Identity(SeriesOp):
    """The series as it is.

    Example:
        >>> x = torch.ones(2, 3, 1)
        >>> Identity()(x, torch.Generator()).apply(x) is x
        True
    """

    def _draw(self, batch: Batch) -> ViewParams:  # noqa: ARG002
        return ViewParams()


@dataclass(frozen=True)
class _Noise(SeriesOp):
    std: Strength

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("std", self.std, 0, math.inf)


@dataclass(frozen=True)
class Jitter(_Noise):
    """Independent normal noise on every value, ``O ~ N(0, std^2)``.

    Args:
        std: Standard deviation, at least 0; a number or shape ``(B,)``.

    Example:
        >>> x = torch.zeros(1, 1000, 1)
        >>> round(Jitter(std=2.0)(x, torch.Generator().manual_seed(0)).apply(x).std().item())
        2
    """

    std: Strength = 0.3

    def _draw(self, batch: Batch) -> ViewParams:
        return ViewParams(offset=batch.normal(*batch.x.shape[1:], mean=0, std=self.std))


@dataclass(frozen=True)
class Scaling(_Noise):
    """One factor for every feature of a sample, ``G ~ N(1, std^2)``.

    Args:
        std: Standard deviation, at least 0; a number or shape ``(B,)``.

    Example:
        >>> view = Scaling()(torch.ones(4, 9, 2), torch.Generator().manual_seed(0))
        >>> view.gain.shape  # the same at all steps
        torch.Size([4, 1, 2])
    """

    std: Strength = 0.5

    def _draw(self, batch: Batch) -> ViewParams:
        return ViewParams(gain=batch.normal(1, batch.x.shape[2], mean=1, std=self.std))


@dataclass(frozen=True)
class Flip(SeriesOp):
    """The other sign, ``G = -1``; with ``p=0.5``, of half of the samples.

    Example:
        >>> x = torch.tensor([[[1.0], [-2.0]]])
        >>> Flip()(x, torch.Generator()).apply(x).flatten().tolist()
        [-1.0, 2.0]
    """

    def _draw(self, batch: Batch) -> ViewParams:
        return ViewParams(gain=batch.x.new_full((len(batch.x), 1, 1), -1.0))


@dataclass(frozen=True)
class MagnitudeWarp(_Noise):
    """A smooth factor through random knots for every feature, knots ``~ N(1, std^2)``.

    The knots lie evenly over the valid steps, the first and the last step included.

    Args:
        std: Standard deviation of the knots, at least 0; a number or shape ``(B,)``.
        num_knots: At least 2.
        spline: ``"cubic"`` (natural: no curvature at the ends) or ``"linear"``.

    Example:
        >>> x = torch.ones(1, 7, 1)
        >>> curve = MagnitudeWarp(std=1.0, num_knots=2)(x, torch.Generator().manual_seed(0)).apply(x)
        >>> bool(curve.diff(n=2, dim=1).abs().max() < 1e-6)  # two knots: a straight line
        True
    """

    std: Strength = 0.1
    num_knots: int = 4
    spline: Literal["cubic", "linear"] = "cubic"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_knots < 2:
            raise ValueError(f"num_knots: at least 2 expected, got {self.num_knots}")
        if self.spline not in ("cubic", "linear"):
            raise ValueError(f"spline: 'cubic' or 'linear' expected, got {self.spline!r}")

    def _draw(self, batch: Batch) -> ViewParams:
        step, length = batch.step, batch.length
        if batch.valid is None:  # every row has the same weights
            step, length = step[:1], length[:1]
        place = step.to(batch.x.dtype) / (length - 1).clamp(min=1) * (self.num_knots - 1)
        weights = _spline_weights(place, self.num_knots, cubic=self.spline == "cubic")
        # The weights of a step sum to 1, so knots around 1 give a curve around 1.
        knots = batch.normal(self.num_knots, batch.x.shape[2], mean=1, std=self.std)
        return ViewParams(gain=weights @ knots)


def _spline_weights(place: Tensor, num_knots: int, *, cubic: bool) -> Tensor:
    """Values of the splines through unit knots at 0, ..., num_knots - 1, shape ``(*place.shape, num_knots)``."""
    place = place.clamp(0, num_knots - 1)[..., None]
    left = place.floor().clamp(max=num_knots - 2)
    knot = torch.cat([left, left + 1], -1).long()  # on either side
    share = torch.cat([left + 1 - place, place - left], -1)
    nothing = place.new_zeros(*place.shape[:-1], num_knots)
    weights = nothing.scatter(-1, knot, share)
    if not cubic or num_knots == 2:
        return weights
    bend = nothing.scatter_(-1, knot, (share**3 - share) / 6)
    return weights.add_(bend @ _natural_curvature(num_knots).to(place.device, place.dtype))


def _natural_curvature(num_knots: int) -> Tensor:
    """Matrix that takes the values at unit-spaced knots to the second derivatives of their natural spline."""
    inner = num_knots - 2
    second_difference = torch.zeros(inner, num_knots, dtype=torch.float64)
    for offset, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
        second_difference.diagonal(offset)[:inner] = value
    system = torch.eye(inner, dtype=torch.float64) + second_difference[:, 1:-1] / 6
    solution = torch.linalg.solve(system, second_difference)
    return torch.nn.functional.pad(solution, (0, 0, 1, 1))
