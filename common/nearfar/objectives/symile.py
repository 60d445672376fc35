r"""Several modalities at once, by the sum of their products (Symile, Saporta et al., NeurIPS 2024).

.. math:: s(x^1, \dots, x^M) = \frac{1}{\tau} \sum_l \prod_m \tilde x^m_l, \qquad
          \ell_i^m = \log \sum_{c \in C(i)} e^{s(x^m_i, c)} - s(x^1_i, \dots, x^M_i)

Each modality is the anchor in turn and C(i) are combinations of the others, the true one among them: N - 1 random ones
(``"n"``), or all N to the power M - 1 (``"n_squared"``, for M = 2 the symmetric InfoNCE). Pairwise losses cannot see
what only the three together determine, such as c = a xor b. Flipping the sign of two modalities changes nothing, so
this is no similarity of pairs.

As in the released code, a random combination can by chance be the true one.
"""

from __future__ import annotations

from functools import reduce
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.checks import check_choice, check_features, check_temperature
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import All, NotSelf
from nearfar.objectives.direction import log_add
from nearfar.objectives.logsumexp import Backend, log_sum_exp
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.temperature import inverse_temperature
from nearfar.objectives.triple_sums import log_sums_over_pairs
from nearfar.objectives.views import at_least_float32, stacked_views
from nearfar.runtime import to_device

Combinations: TypeAlias = Literal["n", "n_squared"]


def multilinear_product(views: Tensor) -> Tensor:
    """Sum over features of the product of all views, the inner product for two of them.

    Args:
        views: Shape ``(M, ..., d)``.

    Returns:
        Shape ``(...,)``.

    Example:
        >>> multilinear_product(torch.tensor([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]])).item()  # -3 + 4
        1.0
    """
    return _product(list(views)).sum(-1)


def symile_loss(
    views: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    negatives: Combinations = "n",
    rng: torch.Generator | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Mean over modalities and rows of picking the others' true combination.

    Args:
        views: The modalities, shape ``(M, N, d)`` with M at least 2; normalised here.
        temperature: A positive number or scalar tensor.
        negatives: ``"n"`` or ``"n_squared"``, the latter for at most three modalities. Three take N^3 d products,
            in the memory of a tile, and no second derivatives.
        rng: Draws the combinations of ``"n"``, on the CPU.
        backend: As of ``contrast``.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or ``rng`` is missing.

    Example:
        >>> rng = torch.Generator().manual_seed(0)
        >>> views = torch.ones(3, 4, 2)
        >>> round(symile_loss(views, rng=rng).item(), 4)  # equal rows: log 4
        1.3863
        >>> round(symile_loss(views, negatives="n_squared").item(), 4)  # log 16
        2.7726
    """
    _check(views, temperature, negatives, rng)
    with torch.autocast(views.device.type, enabled=False):
        unit = smooth_normalize(at_least_float32(views))
        scale = inverse_temperature(temperature, unit)
        positive = multilinear_product(unit) * scale
        if negatives == "n":
            assert rng is not None
            candidates = _shuffled_products(unit, rng)
            others, _ = log_sum_exp(unit * scale, candidates, NotSelf(), backend=backend)
            return (log_add(others, positive.expand_as(others)) - positive).mean()
        if len(unit) == 2:
            rows, columns = log_sum_exp(unit[:1] * scale, unit[1:], All(), columns=True, backend=backend)
            assert columns is not None
            return ((rows + columns) / 2 - positive).mean()
        x, y, z = unit
        return (torch.stack(log_sums_over_pairs(x * scale, y, z)) - positive).mean()


def _product(factors: list[Tensor]) -> Tensor:
    return reduce(torch.mul, factors)


def _shuffled_products(views: Tensor, rng: torch.Generator) -> Tensor:
    """For every modality as anchor, the products of the others, each in an order of its own; ``(M, N, d)``."""
    num_views, num_rows = views.shape[:2]
    products = []
    for anchor in range(num_views):
        orders = to_device(
            [torch.randperm(num_rows, generator=rng) for _ in range(num_views - 1)], views.device
        )
        others = (view for m, view in enumerate(views) if m != anchor)
        products.append(_product([view[order] for view, order in zip(others, orders, strict=True)]))
    return torch.stack(products)


def _check(
    views: Tensor, temperature: float | Tensor, negatives: Combinations, rng: torch.Generator | None
) -> None:
    check_features("views", views, shape="(M, N, d)")
    if views.dim() != 3 or len(views) < 2 or views.shape[1] == 0:
        raise ValueError(
            f"views: (M, N, d) with M at least 2 and N at least 1 expected, got {tuple(views.shape)}"
        )
    check_temperature(temperature)
    check_choice("negatives", negatives, get_args(Combinations))
    if negatives == "n_squared" and len(views) > 3:
        raise ValueError(
            f"negatives: 'n' expected for more than 3 modalities, got 'n_squared' for {len(views)}, "
            f"{views.shape[1]}^{len(views) - 1} combinations"
        )
    if negatives == "n" and rng is None:
        raise ValueError("rng: a generator expected with negatives='n', got None")


class Symile(SoftmaxObjective):
    """:func:`symile_loss` as a module.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        negatives: ``"n"`` or ``"n_squared"``.
        backend: As of ``contrast``.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> Symile(negatives="n_squared").config["negatives"]
        'n_squared'
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        negatives: Combinations = "n",
        *,
        backend: Backend = "auto",
    ) -> None:
        check_choice("negatives", negatives, get_args(Combinations))
        super().__init__(temperature, backend, None, negatives=negatives)

    def forward(
        self, first: Tensor, second: Tensor, more: Tensor | None = None, rng: torch.Generator | None = None
    ) -> Tensor:
        """Scalar loss.

        Args:
            first: First modality, shape ``(N, d)``.
            second: Second modality, same shape as ``first``.
            more: Further ones, shape ``(K, N, d)``.
            rng: As of :func:`symile_loss`.

        Raises:
            ValueError: If a shape, dtype or value does not fit.
        """
        views = stacked_views(first, second, more)
        options = {name: self.config[name] for name in ("negatives", "backend")}
        return symile_loss(views, temperature=self._current_temperature(), rng=rng, **options)
