"""What the covariance of each class is a sum of: its own, those of its donors, and a ridge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = ("ones", "eye")


@dataclass(frozen=True, eq=False)
class Composition:
    r"""Covariances as weighted sums, \sum_c share_c \hat\Sigma_c + \alpha R, for all classes.

    All tensors are on the CPU: which products a batch needs is known before any device is asked.

    Attributes:
        sources: Classes whose covariances are added, -1 where there is none, int64, shape ``(K, 1 + q)``.
        shares: Their factors, zero where there is none, float64, shape ``(K, 1 + q)``.
        ridged: Whether a class has a ridge, bool, shape ``(K,)``.
        alpha: Size of the ridge.
        ridge: ``"ones"``, a matrix of ones, or ``"eye"``, the identity.
    """

    sources: Tensor
    shares: Tensor
    ridged: Tensor
    alpha: float
    ridge: str

    def parts(self, k: int) -> list[tuple[int, float]]:
        """Sources of class ``k`` and their shares, without those of share zero.

        Args:
            k: Class.
        """
        pairs = zip(self.sources[k].tolist(), self.shares[k].tolist(), strict=True)
        return [(source, share) for source, share in pairs if source >= 0 and share > 0]

    def ridge_width(self, dim: int) -> int:
        """Normal numbers that the ridge of one draw takes.

        Args:
            dim: Features, m.
        """
        return 0 if not self.alpha else dim if self.ridge == "eye" else 1


def compose(
    donors: Tensor,
    weights: Tensor,
    has_gaussian: Tensor,
    *,
    gamma: float,
    alpha: float,
    ridge: str,
) -> Composition:
    r"""The sums of RCAL: \gamma \sum_c \omega_c \hat\Sigma_c + (1 - \gamma) \hat\Sigma_k + \alpha R with donors c.

    A class without donors keeps its own covariance, and has no ridge.

    Args:
        donors: -1 where there is none, int64, shape ``(K, q)``.
        weights: Zero where there is none, float64, shape ``(K, q)``.
        has_gaussian: Whether a class has items, bool, shape ``(K,)``.
        gamma: Share of the donors.
        alpha: Size of the ridge.
        ridge: Its kind, of :data:`RIDGES`.

    Example:
        >>> parts = compose(
        ...     torch.tensor([[-1], [0]]), torch.tensor([[0.0], [1.0]]), torch.tensor([True, True]),
        ...     gamma=0.25, alpha=0.0, ridge="ones",
        ... )
        >>> parts.parts(0), parts.parts(1)
        ([(0, 1.0)], [(1, 0.75), (0, 0.25)])
    """
    calibrated = (donors >= 0).any(1)
    own = torch.where(has_gaussian, torch.arange(len(donors)), -1)
    own_share = (1.0 - gamma * calibrated.double()) * has_gaussian
    return Composition(
        torch.cat([own.unsqueeze(1), donors], 1),
        torch.cat([own_share.unsqueeze(1), gamma * weights.double()], 1),
        calibrated & has_gaussian,
        alpha,
        ridge,
    )
