r"""COSTA: contrast of sketched nodes (Zhang et al., KDD 2022).

Embeddings of both views are multiplied by one Gaussian matrix, P of shape (k, n) with entries N(0, 1) / sqrt(k), and
mixtures of nodes are told apart across views:

.. math:: \ell = \frac{1}{2k} \sum_i \Bigl( \log \sum_j e^{c_{ij} / \tau} + \log \sum_j e^{c_{ji} / \tau}
          - 2 c_{ii} / \tau \Bigr), \qquad c_{ij} = \cos(h^1_i, h^2_j), \quad h^v = \mathrm{projector}(P z^v)

P with k = n / 2 has n^2 / 2 entries. It is never held: some rows at a time are drawn, used, and drawn again for the
gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nearfar.augment.draws import normal
from nearfar.errors import ConfigError
from nearfar.objectives import contrast
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.runtime import generator as stream

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Entries of P drawn at a time. Part of what a seed means: another number gives another P.
_BLOCK = 1 << 22


def sketch(n: int, k: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """P itself, for small n: normal numbers of variance 1 / k.

    Args:
        n: Nodes.
        k: Mixtures of them.
        generator: Source of the draw; one number is taken from it.
        like: Device and dtype of the result, shape ``(...,)``.

    Returns:
        Shape ``(k, n)``.

    Raises:
        ConfigError: If ``k`` is not positive.

    Example:
        >>> sketch(6, 3, torch.Generator().manual_seed(0), torch.ones(1)).shape
        torch.Size([3, 6])
    """
    _check(k)
    return torch.cat([block for _, block in _blocks(n, k, _seed(generator), like)])


def sketched(z1: Tensor, z2: Tensor, generator: torch.Generator, k: int) -> tuple[Tensor, Tensor]:
    """Both views times the same P, without holding P.

    Args:
        z1: Embeddings in the first view, shape ``(n, d)``.
        z2: In the second view, same shape; row i is the same node.
        generator: Source of P; one number is taken from it. P is drawn on its device, in every forward and backward.
        k: Mixtures of nodes.

    Returns:
        Two of shape ``(k, d)``, at least float32.

    Raises:
        ConfigError: If ``k`` is not positive.
        ValueError: If the views do not fit.

    Example:
        >>> z, seeded = torch.eye(4), torch.Generator().manual_seed
        >>> bool(torch.equal(sketched(z, z, seeded(0), 2)[0], sketch(4, 2, seeded(0), z)))
        True
    """
    _check(k)
    check_views(z1=z1, z2=z2)
    both = at_least_float32(torch.cat([z1, z2], 1))
    result: Tensor = _Product.apply(both, _seed(generator), (k, len(z1)), False)  # type: ignore[no-untyped-call]
    first, second = result.chunk(2, 1)
    return first, second


def costa_loss(
    h1: Tensor, h2: Tensor, *, temperature: Temperature = 0.4, group: ProcessGroup | None = None
) -> Tensor:
    """Mean over mixtures and both directions of cross-view InfoNCE, a scalar.

    Args:
        h1: Projections of the sketched first view, shape ``(k, d)``.
        h2: Of the second view, same shape.
        temperature: As of :func:`nearfar.objectives.contrast`.
        group: Process group whose mixtures are contrasted as one batch.

    Raises:
        ValueError: If the shapes or values do not fit.

    Example:
        >>> round(costa_loss(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # chance: log 4
        1.3863
    """
    return contrast(h1, h2, symmetric=True, temperature=temperature, group=group)


class _Product(torch.autograd.Function):
    """P x or, transposed, P^T x: each is the gradient of the other."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seed: tuple[int, torch.device], shape: tuple[int, int], transposed: bool
    ) -> Tensor:
        ctx.arguments = (seed, shape, transposed)
        k, n = shape
        result = x.new_zeros(n if transposed else k, x.shape[1])
        with torch.autocast(x.device.type, enabled=False):
            for rows, block in _blocks(n, k, seed, x):
                if transposed:
                    result.addmm_(block.T, x[rows])
                else:
                    torch.mm(block, x, out=result[rows])
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        seed, shape, transposed = ctx.arguments
        return _Product.apply(grad, seed, shape, not transposed), None, None, None  # type: ignore[no-untyped-call]


def _seed(generator: torch.Generator) -> tuple[int, torch.device]:
    """What P is a function of: a number, and where it is drawn."""
    number = torch.randint(1 << 62, (), generator=generator, device=generator.device)
    return int(number), generator.device


def _blocks(n: int, k: int, seed: tuple[int, torch.device], like: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows of P, some at a time: which ones, and their values."""
    number, device = seed
    step = max(1, _BLOCK // n)
    rng = stream(number, "sketch", device=device)
    for first in range(0, k, step):
        last = min(first + step, k)
        yield slice(first, last), normal((last - first, n), like, rng).mul_(k**-0.5)


def _check(k: int) -> None:
    if k < 1:
        raise ConfigError(f"k: at least 1 row of the sketch expected, got {k}")
