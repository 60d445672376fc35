r"""Numbers that say how two views of a batch lie on the sphere, for the tracker; each in O(N tile) memory.

Alignment and uniformity are those of Wang and Isola (ICML 2020), the two things a contrastive loss trades; isotropy and
effective rank (Roy and Vetterli, 2007) fall when representations collapse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nearfar.checks import check_positive
from nearfar.objectives.denominator import NotSelf
from nearfar.objectives.logsumexp import log_sum_exp
from nearfar.objectives.maxima import beats, row_maxima
from nearfar.objectives.similarity import Comparison, smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views

__all__ = [
    "alignment",
    "effective_rank",
    "isotropy",
    "top1_retrieval",
    "uniformity",
    "view_statistics",
]


def alignment(z1: Tensor, z2: Tensor, *, power: float = 2.0) -> Tensor:
    r"""Mean distance between unit rows of two views; 0 means that they agree.

    .. math:: \frac1N \sum_i \lVert \tilde z_{1,i} - \tilde z_{2,i} \rVert_2^{p}

    Args:
        z1: First view, shape ``(N, d)``.
        z2: Second view, same shape as ``z1``.
        power: Exponent p.

    Returns:
        Scalar, differentiable; pairs of equal rows have a gradient of 0, also below an exponent of 2, where there is a
        kink.

    Raises:
        ValueError: If a shape or dtype does not fit or ``power`` is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> round(alignment(x, x.flip(0)).item(), 4)
        2.0
    """
    check_views(z1=z1, z2=z2)
    check_positive(power=power)
    first, second = (smooth_normalize(at_least_float32(z)) for z in (z1, z2))
    squared = (first - second).square().sum(-1)
    if power == 2:
        return squared.mean()
    # Where rows are equal a power has a derivative of infinity times 0; a mask of zeros lets NaNs through.
    equal = squared == 0
    return torch.where(equal, 0, torch.where(equal, 1, squared).pow(power / 2)).mean()


def uniformity(z: Tensor, *, t: float = 2.0) -> Tensor:
    r"""Log of the mean Gaussian potential of all pairs of unit rows; 0 if all are equal, -2 t at best.

    A row of zeros has no direction and counts as orthogonal to all others, so that embeddings which are all zero get
    -2 t: look at their spread beside this number.

    .. math:: \log \frac{2}{N (N-1)} \sum_{i<j} e^{-t \lVert \tilde z_i - \tilde z_j \rVert^2}

    Args:
        z: Shape ``(N, d)`` with N at least 2.
        t: Sharpness of the potential.

    Returns:
        Scalar, differentiable.

    Raises:
        ValueError: If a shape or dtype does not fit or ``t`` is not positive.

    Example:
        >>> round(uniformity(torch.tensor([[1.0], [-1.0]])).item(), 4)  # -t 2^2
        -8.0
    """
    check_views(min_rows=2, z=z)
    check_positive(t=t)
    with torch.autocast(z.device.type, enabled=False):
        # |x - y|^2 = 2 - 2 <x, y> on the sphere, so this is a contrast with scale 2 t, shifted by 2 t.
        x = Comparison("cosine", 2 * t).both(at_least_float32(z)[None])
        assert x is not None
        lse, _ = log_sum_exp(x, None, NotSelf())
        return lse.logsumexp(-1)[0] - math.log(len(z) * (len(z) - 1)) - 2 * t


def isotropy(z: Tensor) -> Tensor:
    r"""One minus the mean cosine of different rows: 0 if all are equal, about 1 if they point everywhere.

    .. math:: 1 - \frac{\lVert \sum_i \tilde z_i \rVert^2 - N}{N (N-1)}

    Args:
        z: Shape ``(N, d)`` with N at least 2.

    Returns:
        Scalar, differentiable.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> round(isotropy(torch.eye(3)).item(), 4)
        1.0
    """
    check_views(min_rows=2, z=z)
    unit = smooth_normalize(at_least_float32(z))
    num = len(z)
    return 1 - (unit.sum(0).square().sum() - num) / (num * (num - 1))


def effective_rank(z: Tensor) -> Tensor:
    r"""Number of directions a batch uses: the exponential of the entropy of its singular values' shares.

    Args:
        z: Shape ``(N, d)``, used as it is (not centred, not normalised).

    Returns:
        Scalar in [1, min(N, d)]; 0 if ``z`` is zero. No gradient.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> round(effective_rank(torch.eye(3)).item(), 4)
        3.0
    """
    check_views(z=z)
    with torch.no_grad():
        # Singular values from the smaller Gram matrix, in double precision because it squares them.
        wide = z.double()
        gram = wide.mT @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.mT
        values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
        total = values.sum()
        shares = values / torch.where(total > 0, total, 1)
        rank = torch.special.entr(shares).sum().exp()
        return torch.where(total > 0, rank, 0).to(torch.promote_types(z.dtype, torch.float32))


def top1_retrieval(q: Tensor, k: Tensor) -> Tensor:
    """Share of rows whose own key is the nearest of all keys by cosine; ties count against.

    Args:
        q: First view, shape ``(N, d)``.
        k: Second view, same shape as ``q``; row i belongs to row i of ``q``.

    Returns:
        Scalar in [0, 1]. No gradient.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> x = torch.eye(3)
        >>> round(top1_retrieval(x, x[[0, 2, 1]]).item(), 4)
        0.3333
    """
    check_views(q=q, k=k)
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        first, second = (smooth_normalize(at_least_float32(x)) for x in (q, k))
        others = row_maxima(first[None], second[None], NotSelf())
        return beats((first * second).sum(-1), others[0]).to(first.dtype).mean()


def view_statistics(z1: Tensor, z2: Tensor) -> dict[str, float]:
    """All of the above for two views, as plain numbers for a tracker.

    Args:
        z1: First view, shape ``(N, d)`` with N at least 2.
        z2: Second view, same shape as ``z1``.

    Returns:
        Alignment and top-1 retrieval of the views; uniformity, isotropy and effective rank of the first.

    Raises:
        ValueError: If a shape or dtype does not fit.

    Example:
        >>> sorted(view_statistics(torch.eye(3), torch.eye(3)))
        ['alignment', 'effective_rank', 'isotropy', 'top1_retrieval', 'uniformity']
    """
    check_views(min_rows=2, z1=z1, z2=z2)
    with torch.no_grad():
        values = {
            "alignment": alignment(z1, z2),
            "uniformity": uniformity(z1),
            "isotropy": isotropy(z1),
            "effective_rank": effective_rank(z1),
            "top1_retrieval": top1_retrieval(z1, z2),
        }
    return {name: value.item() for name, value in values.items()}
