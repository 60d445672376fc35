r"""New classes pulled towards the base classes they resemble (TEEN, Wang et al., NeurIPS 2023).

.. math:: w = \mathrm{softmax}_b(T \langle c, b \rangle), \qquad
          \delta = \frac{\sum_b w_b \, b}{\lVert \sum_b w_b \, b \rVert}, \qquad c' = (1 - a) \, c + a \, \delta

with unit base prototypes b and a unit prototype c of few examples, which is biased towards base classes anyway: drawing
it to the right ones takes away their noise. Classify by cosine. It suits items and classes without history.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_matrix, check_shares, check_weights
from nearfar.objectives.similarity import smooth_normalize


def teen(base: Tensor, new: Tensor, *, temperature: float = 16.0, share: float = 0.5) -> Tensor:
    """Prototypes of new classes, calibrated by those of base classes.

    Args:
        base: Prototypes of well known classes, shape ``(C, d)``; normalised here.
        new: Prototypes of new classes, shape ``(K, d)``; normalised here.
        temperature: T, a factor of cosines: 0 for the mean of all base prototypes, large for the nearest one.
        share: Of the base classes, a, in [0, 1]; the paper takes 0.1 on CIFAR-100, 0.5 elsewhere.

    Returns:
        Shape ``(K, d)``, not longer than 1; differentiable. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or number does not fit.

    Example:
        >>> base, new = torch.tensor([[2.0, 0.0], [-1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> teen(base, new)  # halfway to (1, 0)
        tensor([[0.8000, 0.4000]])
    """
    check_matrix("base", base, shape="(C, d)")
    check_matrix("new", new, like=base, shape="(K, d)")
    check_weights(temperature=temperature)
    check_shares(share=share)
    with torch.autocast(base.device.type, enabled=False):
        dtype = torch.promote_types(base.dtype, torch.float32)
        b, c = smooth_normalize(base.to(dtype)), smooth_normalize(new.to(dtype))
        pull = torch.softmax(temperature * (c @ b.mT), 1) @ b
        return (1 - share) * c + share * smooth_normalize(pull)
