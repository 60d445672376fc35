"""The learnable augmenters of MCLRec: small networks that make a view out of a user vector."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nearfar.runtime import generator, isolated_rng

Kind: TypeAlias = Literal["learned", "frozen", "identity"]
EPS = 1e-12


class Augmenter(nn.Module):
    r"""Three layers of widths d, d/2, d/4, d with exact GELU between them; rows of unit length.

    .. math:: w(h) = \\mathrm{normalise}(W_3 \\, g(W_2 \\, g(W_1 h + b_1) + b_2) + b_3)

    Differs from the official code: the widths follow d instead of being 64, 32, 16, 64, and a zero vector stays zero
    instead of becoming NaN.

    Args:
        dim: d, at least 4.
        rng: Source of the initial weights, which are those of ``torch.nn.Linear``; ``None`` draws from stream
            ``augmenter`` of seed 0.
    """

    def __init__(self, dim: int, rng: torch.Generator | None = None) -> None:
        super().__init__()
        rng = generator(0, "augmenter") if rng is None else rng
        with isolated_rng():
            self.first, self.second = nn.Linear(dim, dim // 2), nn.Linear(dim // 2, dim // 4)
            self.third = nn.Linear(dim // 4, dim)
        for layer in (self.first, self.second, self.third):
            bound = layer.in_features**-0.5  # of weights (Kaiming, a = sqrt 5) and biases alike
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=rng)

    def forward(self, h: Tensor) -> Tensor:
        """Unit rows from rows ``(B, d)``."""
        return F.normalize(self.third(F.gelu(self.second(F.gelu(self.first(h))))), dim=-1, eps=EPS)


class Augmenters(nn.Module):
    """One augmenter for each of the two data views.

    Args:
        dim: Width of user vectors.
        kind: ``"learned"``; ``"frozen"`` keeps the initial weights; ``"identity"`` only normalises.
        shared: Whether both views share one (ablation E of the paper).
        seed: Of the run.
    """

    def __init__(self, dim: int, kind: Kind, *, shared: bool, seed: int) -> None:
        super().__init__()
        count = 0 if kind == "identity" else 1 if shared else 2
        self.networks = nn.ModuleList(Augmenter(dim, generator(seed, "augmenter", i)) for i in range(count))
        self.requires_grad_(kind == "learned")

    def forward(self, h: Tensor) -> Tensor:
        """Model views of stacked data views.

        Args:
            h: First views, then second views, shape ``(2 B, d)``.

        Returns:
            Unit rows, shape ``(2 B, d)``.
        """
        if not len(self.networks):
            return F.normalize(h, dim=-1, eps=EPS)
        first, second = h.chunk(2)
        return torch.cat([self.networks[0](first), self.networks[-1](second)])

    def as_constant(self, h: Tensor) -> Tensor:
        """The same views of ``h``, ``(2 B, d)``; their gradient reaches it and not the weights."""
        weights = {name: weight.detach() for name, weight in self.named_parameters()}
        views: Tensor = functional_call(self, weights, (h,))
        return views
