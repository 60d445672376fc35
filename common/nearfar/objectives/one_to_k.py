r"""One row, K views or languages of it, each to be told from those of other rows (1-to-K, Nie et al., KDD 2024).

.. math:: \ell = \frac{1}{2 N} \sum_i \Big[ \frac{1}{K} \sum_c -\log \frac{e^{s_{i,(i,c)}}}{\sum_{j,e} e^{s_{i,(j,e)}}}
          + \frac{1}{K} \sum_c -\log \frac{e^{s_{i,(i,c)}}}{\sum_j e^{s_{j,(i,c)}}} \Big]

One direction chooses among all N K keys, the other among N rows; for K = 1 this is the symmetric InfoNCE.

Differs from the released code: its first direction is the sum over K unless an option divides it
(``k_reduction="sum"``); the mean gives both directions the same weight.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from nearfar.checks import check_choice, check_temperature
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.denominator import All
from nearfar.objectives.logsumexp import Backend, log_sum_exp
from nearfar.objectives.similarity import Comparison
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.temperature import inverse_temperature
from nearfar.objectives.views import at_least_float32, check_more, check_views

KReduction: TypeAlias = Literal["mean", "sum"]


def one_to_k_loss(
    first: Tensor,
    more: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    k_reduction: KReduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """Mean of the loss of rows among all keys and of keys among all rows, from one pass.

    Args:
        first: Rows, shape ``(N, d)``.
        more: Keys, shape ``(K, N, d)``; ``more[:, i]`` belong to row i.
        temperature: A positive number or scalar tensor.
        k_reduction: Whether the K terms of a row are averaged or added; those of keys are always averaged.
        backend: As of ``contrast``.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> import torch
        >>> z = torch.ones(4, 2)
        >>> round(one_to_k_loss(z, torch.ones(3, 4, 2)).item(), 4)  # (log 12 + log 4) / 2
        1.9356
    """
    check_views(first=first)
    check_more("more", more, first, least=1)
    check_temperature(temperature)
    check_choice("k_reduction", k_reduction, get_args(KReduction))
    with torch.autocast(first.device.type, enabled=False):
        rows, keys = at_least_float32(first), at_least_float32(more)
        comparison = Comparison("cosine", inverse_temperature(temperature, rows))
        anchors, unit = comparison.anchors(rows), comparison.keys(keys)
        of_rows, of_keys = log_sum_exp(
            anchors[None], unit.flatten(0, 1)[None], All(), columns=True, backend=backend
        )
        assert of_keys is not None
        positive = (anchors * unit).sum(-1).mean()
        row_loss, key_loss = of_rows.mean() - positive, of_keys.mean() - positive
        return ((len(more) if k_reduction == "sum" else 1) * row_loss + key_loss) / 2


class OneToK(SoftmaxObjective):
    """:func:`one_to_k_loss` as a module.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        k_reduction: Whether the K terms of a row are averaged or added.
        backend: As of ``contrast``.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> OneToK(k_reduction="sum").config["k_reduction"]
        'sum'
    """

    def __init__(
        self,
        temperature: Temperature = 0.1,
        k_reduction: KReduction = "mean",
        *,
        backend: Backend = "auto",
    ) -> None:
        check_choice("k_reduction", k_reduction, get_args(KReduction))
        super().__init__(temperature, backend, None, k_reduction=k_reduction)

    def forward(self, first: Tensor, more: Tensor) -> Tensor:
        """As :func:`one_to_k_loss`, shapes ``(N, d)`` and ``(K, N, d)``."""
        options = {name: self.config[name] for name in ("k_reduction", "backend")}
        return one_to_k_loss(first, more, temperature=self._current_temperature(), **options)
