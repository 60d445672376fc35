"""Which nodes a probe learns from, which select it, and which it is tested on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError


def random_split(
    num_nodes: int, rng: np.random.Generator, fractions: tuple[float, float] = (0.1, 0.1)
) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes at random, 10 % to train, 10 % to validate and 80 % to test by default (GRACE, Zhu et al., 2020).

    Classes are not balanced, as nobody's are.

    Args:
        num_nodes: Nodes to divide.
        rng: Source of the order.
        fractions: Shares of the training and of the validation nodes; rounded down, the rest is tested on.

    Returns:
        Masks of training, validation and test nodes, bool, each of shape ``(num_nodes,)``.

    Raises:
        ConfigError: If the fractions are not in (0, 1) or leave nothing to test.
        DataError: If there are so few nodes that a part would be empty.

    Example:
        >>> [mask.sum().item() for mask in random_split(109, np.random.default_rng(0))]
        [10, 10, 89]
    """
    if len(fractions) != 2 or not (min(fractions) > 0 and sum(fractions) < 1):
        raise ConfigError(
            f"fractions: two positive numbers with a sum below 1 expected, got {fractions}; what remains is tested on"
        )
    # 0.29 * 100 is less than 29 by a rounding error.
    sizes = [int(num_nodes * fraction + 1e-9) for fraction in fractions]
    sizes.append(num_nodes - sum(sizes))
    if min(sizes) < 1:
        raise DataError(
            f"{num_nodes} nodes cannot be split {fractions[0]:g} / {fractions[1]:g} / rest: the parts would have "
            f"{sizes[0]}, {sizes[1]} and {sizes[2]} nodes; give masks instead"
        )
    part = torch.empty(num_nodes, dtype=torch.int64)
    part[torch.from_numpy(rng.permutation(num_nodes))] = torch.arange(3).repeat_interleave(
        torch.tensor(sizes)
    )
    return part == 0, part == 1, part == 2
