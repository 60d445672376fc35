r"""A temperature for every class, from how far its features are spread.

.. math:: \phi(c) = \frac{\sum_{i \in c} \lVert z_i - t_c \rVert}{n_c \log(n_c + \alpha)}, \qquad
          \tau_2(c) = \tau_1 \exp\big(\phi(c) / \bar\phi\big)

with unit features z, their mean t_c in class c, and the mean of phi over the classes (SBCL, Hou et al., ICCV 2023,
eq. 5 and 6). Always above tau_1, so that a class is held together less tightly than its subclasses. The released code
has no exponential: phi is clipped to its 20th and 80th percentile and divided by its mean, which is around tau_1 and
often below it, contrary to the text; classes that stay whole have tau_1 there.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.errors import ConfigError

PERCENTILES = (0.2, 0.8)
# The code's formula has no lower bound, and a class that is a point would get 0: nothing can be divided by it.
LEAST = 0.01


def class_spread(z: Tensor, labels: Tensor, num_classes: int, alpha: float = 10.0) -> Tensor:
    """phi of every class.

    Args:
        z: Features, normalised here, shape ``(n, d)``.
        labels: Class codes, int64, shape ``(n,)``.
        num_classes: K.
        alpha: In the logarithm.

    Returns:
        float64, shape ``(K,)``; 0 for classes of one row or none.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> round(class_spread(z, torch.tensor([0, 0, 1]), 2)[0].item(), 4)  # sqrt(1/2) / log 12
        0.2846
    """
    unit = F.normalize(z.double(), dim=1)
    counts = torch.bincount(labels, minlength=num_classes).double()
    means = unit.new_zeros(num_classes, unit.shape[1]).index_add_(0, labels, unit)
    means /= counts.clamp(min=1)[:, None]
    # Of an only row the difference is rounding.
    distance = torch.linalg.vector_norm(unit - means[labels], dim=1) * (counts > 1)[labels]
    total = unit.new_zeros(num_classes).index_add_(0, labels, distance)
    return total / (counts * torch.log(counts + alpha)).where(counts > 0, 1)


def class_temperatures(
    spread: Tensor,
    parts: Tensor,
    temperature: float,
    kind: Literal["paper", "code", "fixed"] = "paper",
    value: float = 0.2,
) -> Tensor:
    """tau_2 of every class.

    Args:
        spread: phi, shape ``(K,)``.
        parts: Subclasses of every class, 0 for a class without rows, shape ``(K,)``.
        temperature: tau_1.
        kind: Formula; ``fixed`` gives ``value`` to all.
        value: See there.

    Returns:
        float64, shape ``(K,)``; tau_1 where there is no row, or no class has any spread.

    Raises:
        ConfigError: If the kind is unknown.

    Example:
        >>> class_temperatures(torch.tensor([1.0, 1.0]), torch.tensor([2, 1]), 0.1).round(decimals=4).tolist()
        [0.2718, 0.2718]
    """
    phi = spread.double()
    here = parts > 0
    if kind == "fixed":
        return torch.full_like(phi, value)
    if kind not in ("paper", "code"):
        raise ConfigError(f"kind: paper, code or fixed expected, got {kind!r}")
    mean = phi[here].mean() if here.any() else phi.new_zeros(())
    if not mean > 0:
        return torch.full_like(phi, temperature)
    if kind == "paper":
        return (temperature * torch.exp(phi / mean)).where(here, temperature)
    low, high = torch.quantile(phi[here], torch.tensor(PERCENTILES, dtype=phi.dtype))
    clipped = phi.clamp(low, high)
    found = (temperature * clipped / clipped[here].mean()).clamp(min=LEAST)
    return found.where(parts > 1, temperature)
