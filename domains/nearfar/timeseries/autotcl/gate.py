r"""Which time steps a view keeps: a number in [0, 1] for each, drawn so that gradients reach its logit.

Hard concrete (Louizos et al., ICLR 2018; eq. 4 of AutoTCL, Zheng et al., ICLR 2024): for u uniform on (0, 1),

.. math:: s = \sigma\Bigl(\frac{\log u - \log(1 - u) + a}{\tau}\Bigr), \qquad
          h = \min(1, \max(0, s (\zeta - \gamma) + \gamma)), \qquad
          P(h > 0) = \sigma\bigl(a - \tau \log(-\gamma / \zeta)\bigr)

Eq. 7 of the paper prints another probability, which agrees with its own eq. 4 only for tau = 1; the one here is the
distribution function of eq. 4.

The published program does something else (:class:`ReleasedGate`): its probabilities of keeping a step never leave
0.47 to 0.74, whatever is learnt.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.augment.draws import uniform

SMALLEST_DRAW = 1e-6


@dataclass(frozen=True)
class Gate(ABC):
    """A way to draw a mask from logits.

    Args:
        hard: Zeros and ones forwards, the gradient of the soft mask backwards.
    """

    hard: bool = True

    def sample(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """A mask, drawn.

        Args:
            logits: Shape ``(B, T, A)``.
            generator: Source of the draw.

        Returns:
            Shape ``(B, T, A)``, in [0, 1].
        """
        return self.of(logits, uniform(logits.shape, logits, generator))

    def of(self, logits: Tensor, draw: Tensor) -> Tensor:
        """The mask that belongs to a draw.

        Args:
            logits: Shape ``(B, T, A)``.
            draw: Uniform on [0, 1), same shape.
        """
        return self._thresholded(self._soft(logits, draw))

    def typical(self, logits: Tensor) -> Tensor:
        """A mask without chance.

        Args:
            logits: Shape ``(B, T, A)``.

        Returns:
            Same shape.
        """
        return self._thresholded(self._without_noise(logits))

    @abstractmethod
    def keep_probability(self, logits: Tensor) -> Tensor:
        """Probability that a step is kept at all, differentiable.

        Args:
            logits: Shape ``(B, T, A)``.
        """

    @abstractmethod
    def _soft(self, logits: Tensor, draw: Tensor) -> Tensor: ...

    @abstractmethod
    def _without_noise(self, logits: Tensor) -> Tensor: ...

    def _thresholded(self, soft: Tensor) -> Tensor:
        if not self.hard:
            return soft
        kept = (soft > 0.5).to(soft.dtype)
        # Exactly 0 or 1 forwards: kept + soft - soft would round.
        return kept if not soft.requires_grad else _StraightThrough.apply(soft, kept)  # type: ignore[no-untyped-call]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, soft: Tensor, kept: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        return kept

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


@dataclass(frozen=True)
class HardConcrete(Gate):
    """The stretched and clipped binary concrete distribution.

    Args:
        temperature: tau, positive; towards 0 the mask becomes Bernoulli.
        low: gamma, below 0.
        high: zeta, above 1.

    Raises:
        ValueError: If a number is out of bounds.

    Example:
        >>> gate = HardConcrete()
        >>> gate.typical(torch.tensor([-9.0, 0.1, 9.0])).tolist()
        [0.0, 1.0, 1.0]
    """

    temperature: float = 2 / 3
    low: float = -0.1
    high: float = 1.1

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.low < 0 and self.high > 1):
            raise ValueError(
                "gate: temperature > 0, low < 0 and high > 1 expected, got "
                f"temperature={self.temperature}, low={self.low}, high={self.high}"
            )

    def keep_probability(self, logits: Tensor) -> Tensor:
        """P(h > 0), shape ``(B, T, A)``; with ``hard`` a step with h below a half is dropped as well.

        Args:
            logits: Shape ``(B, T, A)``.
        """
        return (logits - self.temperature * math.log(-self.low / self.high)).sigmoid()

    def _soft(self, logits: Tensor, draw: Tensor) -> Tensor:
        u = draw.clamp(SMALLEST_DRAW, 1 - SMALLEST_DRAW)
        return self._stretched(((u.log() - (-u).log1p() + logits) / self.temperature).sigmoid())

    def _without_noise(self, logits: Tensor) -> Tensor:
        return self._stretched(logits.sigmoid())

    def _stretched(self, s: Tensor) -> Tensor:
        return (s * (self.high - self.low) + self.low).clamp(0, 1)


@dataclass(frozen=True)
class ReleasedGate(Gate):
    r"""The mask of the published program: the probability itself goes where a logit belongs.

    .. math:: P(h > 1/2) = \frac{1 - b - \sigma(\log(1 + 2\Gamma) - \pi)}{1 - 2b}, \qquad \pi = \sigma(a)

    Args:
        stretch: Gamma, how far the interval reaches below 0; it ends at 1.
        bias: b in [0, 0.5): draws come from [b, 1 - b].

    Raises:
        ValueError: If a number is out of bounds.

    Example:
        >>> ends = ReleasedGate().keep_probability(torch.tensor([-99.0, 99.0]))  # all there is
        >>> [round(end, 3) for end in ends.tolist()]
        [0.474, 0.735]
    """

    stretch: float = 0.05
    bias: float = 0.05

    def __post_init__(self) -> None:
        if not (self.stretch >= 0 and 0 <= self.bias < 0.5):
            raise ValueError(
                f"gate: stretch >= 0 and bias in [0, 0.5) expected, got stretch={self.stretch}, bias={self.bias}"
            )

    def keep_probability(self, logits: Tensor) -> Tensor:
        """P(h > 1/2), shape ``(B, T, A)``.

        Args:
            logits: Shape ``(B, T, A)``.
        """
        dropped = (math.log1p(2 * self.stretch) - logits.sigmoid()).sigmoid()
        return ((1 - self.bias - dropped) / (1 - 2 * self.bias)).clamp(0, 1)

    def _soft(self, logits: Tensor, draw: Tensor) -> Tensor:
        u = (self.bias + (1 - 2 * self.bias) * draw).clamp(SMALLEST_DRAW, 1 - SMALLEST_DRAW)
        return self._stretched((u.log() - (-u).log1p() + logits.sigmoid()).sigmoid())

    def _without_noise(self, logits: Tensor) -> Tensor:
        return self._stretched(logits.sigmoid().sigmoid())

    def _stretched(self, s: Tensor) -> Tensor:
        return (s * (1 + self.stretch) - self.stretch).clamp(0, 1)
