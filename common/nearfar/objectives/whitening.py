r"""Features whitened in random groups (shuffled group whitening, Zhuo et al., ACL 2023).

.. math:: y_g = (x_g - \mu_g) \, \Sigma_g^{-1/2}, \qquad \Sigma_g = \frac1N (x_g - \mu_g)^T (x_g - \mu_g) + \epsilon I

for every group g of a random partition of the D features into groups of D / G; features stay in their places. G = D
standardises every feature, G = 1 is full ZCA whitening, and the partition matters only in between.

The symmetric inverse root comes from a Newton-Schulz iteration, products only: it has a gradient where eigenvalues are
equal, which one of eigenvectors lacks, and a GPU is not waited for. A group needs more rows than features; with N rows
for m features, :math:`N \le m`, the covariance is shrunk towards its mean variance by the share m / (N + m), and the
result is then not white.

Differs from the released code: :math:`\epsilon`, the shrinkage, and running statistics that evaluation really uses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.checks import check_ids, check_positive
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.runtime import to_device

ITERATIONS = (
    32  # each lets a small eigenvalue grow 2.25 times: 26 for one of 1e-9 of the norm, the rest to converge
)


def shuffled_group_whitening(
    x: Tensor, groups: int, permutation: Tensor, *, eps: float = 1e-5, detach: bool = False
) -> Tensor:
    """Whitened features, each group by the statistics of the batch.

    Args:
        x: Shape ``(N, D)`` with N at least 2.
        groups: G, which must divide D.
        permutation: Order of the features, of which each D / G in a row are one group, int64 of shape ``(D,)``.
        eps: Added to all eigenvalues of a covariance.
        detach: Whether the whitening matrices get no gradient; the means do.

    Returns:
        Same shape as ``x``. Half precision is computed, and returned, in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> x = torch.tensor([[1.0, 5.0], [3.0, 1.0], [1.0, 1.0], [3.0, 5.0]])
        >>> shuffled_group_whitening(x, 2, torch.arange(2)).round(decimals=3).tolist()
        [[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]]
    """
    check_views(2, x=x)
    check_groups(x.shape[1], groups)
    check_positive(eps=eps)
    _check_permutation(permutation, x.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        x = at_least_float32(x)
        order: Tensor = to_device(permutation, x.device)
        grouped = _grouped(x - x.mean(0), groups, order)
        covariance = _shrunk(grouped.mT @ grouped / len(x), len(x))
        root = inverse_root(covariance, eps)
        return _ungrouped(grouped @ (root.detach() if detach else root), order)


def inverse_root(covariance: Tensor, eps: float = 1e-5) -> Tensor:
    """Symmetric inverse square root of positive semi-definite matrices plus ``eps`` times the identity.

    Args:
        covariance: Shape ``(..., m, m)``, symmetric.
        eps: Added to the eigenvalues.

    Returns:
        Same shape as ``covariance``, differentiable.

    Example:
        >>> inverse_root(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), eps=1e-12).round(decimals=4).tolist()
        [[0.5, 0.0], [0.0, 1.0]]
    """
    size = covariance.shape[-1]
    eye = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    matrix = covariance + eps * eye
    # The Frobenius norm bounds the eigenvalues, so that all are in (0, 1] and the iteration converges.
    norm = matrix.square().sum((-2, -1), keepdim=True).sqrt()
    y, root = matrix / norm, eye.expand_as(matrix)
    for _ in range(ITERATIONS):
        step = 1.5 * eye - 0.5 * (root @ y)
        y, root = y @ step, step @ root
    return (root + root.mT) / (2 * norm.sqrt())


def check_groups(dim: int, groups: int) -> None:
    """Raise ValueError unless ``groups`` divides ``dim``.

    Args:
        dim: Number of features.
        groups: Number of groups.

    Raises:
        ValueError: If it does not, naming both.
    """
    if groups < 1 or dim < 1 or dim % groups:
        raise ValueError(f"groups: a divisor of dim={dim} expected, got {groups}")


def _check_permutation(permutation: Tensor, size: int) -> None:
    check_ids("permutation", permutation, size)
    if permutation.device.type == "cpu" and not bool((permutation.sort()[0] == torch.arange(size)).all()):
        raise ValueError(f"permutation: every number below {size} once expected, got {permutation.tolist()}")


def _grouped(x: Tensor, groups: int, order: Tensor) -> Tensor:
    """Shape ``(N, D)`` to ``(G, N, D / G)``."""
    parts: Tensor = x[:, order].unflatten(1, (groups, -1))
    return parts.transpose(0, 1)


def _ungrouped(grouped: Tensor, order: Tensor) -> Tensor:
    return grouped.transpose(0, 1).flatten(1)[:, order.argsort()]


def _shrunk(covariance: Tensor, num_rows: int) -> Tensor:
    """As it is with enough rows, else mixed with its mean variance; shape ``(G, m, m)``."""
    size = covariance.shape[-1]
    if num_rows > size:
        return covariance
    share = size / (num_rows + size)
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    return (1 - share) * covariance + share * variance * eye


class ShuffledGroupWhitening(nn.Module):
    """:func:`shuffled_group_whitening` with a new partition each time, and running statistics for evaluation.

    Evaluation groups features as they come. Statistics move when :meth:`after_step` is called.

    Args:
        dim: Number of features D.
        groups: G, which must divide ``dim``.
        eps: Added to all eigenvalues of a covariance.
        momentum: Share of the latest batch in the running statistics.
        detach: Whether whitening matrices get no gradient.

    Raises:
        ValueError: If a number does not fit.

    Example:
        >>> layer = ShuffledGroupWhitening(4, 2).eval()
        >>> layer(torch.ones(3, 4)).shape
        torch.Size([3, 4])
    """

    running_mean: Tensor
    running_covariance: Tensor

    def __init__(
        self, dim: int, groups: int, *, eps: float = 1e-5, momentum: float = 0.1, detach: bool = False
    ) -> None:
        super().__init__()
        check_groups(dim, groups)
        check_positive(eps=eps, momentum=momentum)
        if momentum > 1:
            raise ValueError(f"momentum: at most 1 expected, got {momentum}")
        self.dim, self.groups, self.eps, self.momentum, self.detach = dim, groups, eps, momentum, detach
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_covariance", torch.eye(dim))
        self._latest: Tensor | None = None

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Whitened features.

        Args:
            x: Shape ``(N, dim)``, in training with N at least 2.
            rng: Draws the partition in training, on the CPU.

        Returns:
            Same shape as ``x``.

        Raises:
            ValueError: If a shape does not fit, or ``rng`` is missing in training.
        """
        check_views(1, self.dim, x=x)
        if not self.training:
            return self._by_running_statistics(x)
        if rng is None:
            raise ValueError("rng: a generator expected in training, got None")
        self._latest = at_least_float32(x.detach())
        permutation = torch.randperm(self.dim, generator=rng)
        return shuffled_group_whitening(x, self.groups, permutation, eps=self.eps, detach=self.detach)

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the running statistics follow the latest batch; nothing without one."""
        if self._latest is None:
            return
        x, self._latest = self._latest.to(self.running_mean), None
        mean = x.mean(0)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_covariance.lerp_((x - mean).mT @ (x - mean) / len(x), self.momentum)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"{self.dim}, {self.groups}, eps={self.eps}, momentum={self.momentum}, detach={self.detach}"

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = at_least_float32(x)
            order = torch.arange(self.dim, device=x.device)
            size = self.dim // self.groups
            blocks = self.running_covariance.unflatten(0, (self.groups, size)).unflatten(
                2, (self.groups, size)
            )
            covariance = blocks.diagonal(dim1=0, dim2=2).movedim(-1, 0)
            grouped = _grouped(x - self.running_mean.to(x), self.groups, order)
            return _ungrouped(grouped @ inverse_root(covariance.to(x), self.eps), order)
