r"""What all samples share apart from what only some have (SepCLR, Louiset et al., ICLR 2024).

The first half c of a representation, on the sphere, is common to background and target samples; the second half s,
not normalised, is salient: for the targets only. With s' = s where the sample is a target, else 0,

.. math:: \ell = L_c + \beta_1 L_s + \beta_2 L_i + \lambda J, \qquad
          L_c = a(c_1, c_2) + u(c_1) + u(c_2), \qquad L_s = a_{target}(s_1, s_2) + u(s'_1) + u(s'_2),

with alignment :math:`a(x, y) = \overline{\lVert x_i - y_i \rVert^2} / 2 \tau`, uniformity
:math:`u(x) = \log \overline{e^{-\lVert x_i - x_j \rVert^2 / 2 \tau}}` over pairs i < j, and the salient part of the
background drawn to 0, :math:`L_i = \overline{\lVert s_i \rVert^2} / 2 \tau` over background samples. J keeps the
halves independent: minus an estimate of the entropy of both together,

.. math:: J = \frac1N \sum_i \log \frac1N \sum_j
          e^{-(\lVert c_i - c_j \rVert^2 + \lVert s'_i - s'_j \rVert^2) / 2 \tau},

the pair of a sample with itself included. :math:`L_i` and J are means over the views.

Differs from the released code: its weights are 1000, 1000 and 10. A batch without targets, or without background,
leaves out the terms about them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.checks import check_ids, check_positive, check_tensor, check_weights
from nearfar.objectives.denominator import All, NotSelf, Rule
from nearfar.objectives.logsumexp import log_sum_exp
from nearfar.objectives.objective import Objective
from nearfar.objectives.similarity import Comparison, smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views


def sepclr_loss(
    first: Tensor,
    second: Tensor,
    target: Tensor,
    *,
    temperature: float = 0.5,
    weight_salient: float = 1.0,
    weight_info: float = 1.0,
    weight_joint: float = 0.1,
) -> Tensor:
    """Weighted sum of the common, salient, information-less and independence terms.

    Args:
        first: First view, shape ``(N, d)`` with N at least 2 and d even; halves are common and salient.
        second: Second view, same shape as ``first``.
        target: Which rows are targets, booleans of shape ``(N,)``.
        temperature: Of all kernels.
        weight_salient: Of the alignment and uniformity of salient halves.
        weight_info: Of the salient halves of the background.
        weight_joint: Of the independence of the halves.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> round(sepclr_loss(z, z, torch.tensor([True, False])).item(), 4)  # all equal, no salient part
        0.0
    """
    check_views(2, first=first, second=second)
    if first.shape[1] % 2:
        raise ValueError(f"first: an even number of features expected, got shape {tuple(first.shape)}")
    check_tensor("target", target, (len(first),), torch.bool)
    check_positive(temperature=temperature)
    check_weights(weight_salient=weight_salient, weight_info=weight_info, weight_joint=weight_joint)
    with torch.autocast(first.device.type, enabled=False):
        halves = [at_least_float32(x).chunk(2, 1) for x in (first, second)]
        common, salient = [smooth_normalize(c) for c, _ in halves], [s for _, s in halves]
        mask, scale = target.to(common[0]), 1 / (2 * temperature)
        seen = [s * mask[:, None] for s in salient]
        everyone = torch.ones_like(mask)
        of_all = _align(common[0], common[1], everyone, scale) + sum(_uniformity(c, scale) for c in common)
        of_targets = _align(salient[0], salient[1], mask, scale) + sum(_uniformity(s, scale) for s in seen)
        of_background = sum(_align(s, torch.zeros_like(s), 1 - mask, scale) for s in salient) / 2
        joint = sum(_joint(c, s, scale) for c, s in zip(common, seen, strict=True)) / 2
        return of_all + weight_salient * of_targets + weight_info * of_background + weight_joint * joint


def _align(x: Tensor, y: Tensor, counts: Tensor, scale: float) -> Tensor:
    """Mean squared distance of the rows that count, 0 without any; shapes ``(N, d)`` and ``(N,)``."""
    distance = (x - y).square().sum(1)
    return scale * (distance * counts).sum() / counts.sum().clamp(min=1)


def _uniformity(x: Tensor, scale: float) -> Tensor:
    return _log_kernel_sums(x, scale, NotSelf()).logsumexp(0) - math.log(len(x) * (len(x) - 1))


def _joint(common: Tensor, seen: Tensor, scale: float) -> Tensor:
    return _log_kernel_sums(torch.cat([common, seen], 1), scale, All()).mean() - math.log(len(common))


def _log_kernel_sums(x: Tensor, scale: float, rule: Rule) -> Tensor:
    """Log of the sum over j of exp(-scale |x_i - x_j|^2), shape ``(N,)``."""
    x = x[None]
    comparison = Comparison("neg_sqdist", scale, centre=x.detach().mean(1, keepdim=True))
    return log_sum_exp(comparison.anchors(x), comparison.keys(x), rule)[0][0]


class SepCLR(Objective):
    """:func:`sepclr_loss` as a module, for labels.

    Args:
        background: The label of background rows; negative labels are background as well, all others targets.
        temperature: Of all kernels.
        weight_salient: Of the alignment and uniformity of salient halves.
        weight_info: Of the salient halves of the background.
        weight_joint: Of the independence of the halves.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> SepCLR(background=3).config["background"]
        3
    """

    def __init__(
        self,
        background: int = 0,
        temperature: float = 0.5,
        weight_salient: float = 1.0,
        weight_info: float = 1.0,
        weight_joint: float = 0.1,
    ) -> None:
        if isinstance(background, bool) or not isinstance(background, int):
            raise ValueError(f"background: an integer label expected, got {background!r}")
        check_positive(temperature=temperature)
        check_weights(weight_salient=weight_salient, weight_info=weight_info, weight_joint=weight_joint)
        super().__init__(
            background=background,
            temperature=temperature,
            weight_salient=weight_salient,
            weight_info=weight_info,
            weight_joint=weight_joint,
        )

    def forward(self, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: First view, shape ``(N, d)`` with N at least 2 and d even.
            second: Second view, same shape as ``first``.
            labels: Integers, shape ``(N,)``.

        Raises:
            ValueError: If a shape or dtype does not fit.
        """
        check_views(2, first=first, second=second)
        check_ids("labels", labels, len(first))
        options = self.config
        target = (labels != options.pop("background")) & (labels >= 0)
        return sepclr_loss(first, second, target, **options)
