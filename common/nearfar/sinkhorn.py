r"""Transport plans smoothed by entropy (Cuturi, NeurIPS 2013), computed with logarithms only.

.. math:: \Pi = \arg\min_{\Pi \geq 0} \langle \Pi, C \rangle + \epsilon \sum_{ij} \Pi_{ij} (\log \Pi_{ij} - 1)
          \quad \text{with row sums } r \text{ and column sums } c, \qquad
          \Pi_{ij} = e^{f_i + g_j - C_{ij} / \epsilon}

Rows and columns are brought to their sums in turn. No exponential of a cost is ever stored, so that no epsilon
overflows; a small one needs more rounds, about (largest cost) / epsilon.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_counts, check_matrix, check_positive, check_vector


def sinkhorn(
    cost: Tensor,
    *,
    eps: float = 0.05,
    row: Tensor | None = None,
    column: Tensor | None = None,
    iterations: int = 100,
    tolerance: float | None = None,
) -> Tensor:
    """The plan of least cost whose entropy counts ``eps``.

    Args:
        cost: What moving a unit from row i to column j costs, shape ``(n, m)``.
        eps: Weight of the entropy, in units of the cost: towards 0 the cheapest plan, towards infinity the product of
            the marginals.
        row: What is to leave every row, not negative, shape ``(n,)``; divided by its sum here. Equal by default.
        column: What is to reach every column, shape ``(m,)``; likewise.
        iterations: Rounds at most.
        tolerance: Stop when no row sum is off by a larger share of itself. Each round then waits for the device;
            ``None`` makes all rounds without waiting.

    Returns:
        Shape ``(n, m)``, sum 1, differentiable in ``cost``. Column sums are exact to round-off, row sums as near as the
        rounds bring them. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or number makes no sense, or a marginal sums to zero.

    Example:
        >>> plan = sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), eps=0.1)
        >>> [round(x, 3) for x in plan.flatten().tolist()]
        [0.5, 0.0, 0.0, 0.5]
    """
    check_matrix("cost", cost, shape="(n, m)")
    check_positive(eps=eps)
    check_counts(iterations=iterations)
    if tolerance is not None:
        check_positive(tolerance=tolerance)
    with torch.autocast(cost.device.type, enabled=False):
        logits = cost.to(torch.promote_types(cost.dtype, torch.float32)) / -eps
        log_row = _log_share("row", row, logits, 0)
        log_column = _log_share("column", column, logits, 1)
        f, g = torch.zeros_like(log_row), torch.zeros_like(log_column)
        for _ in range(iterations):
            before, f = f, log_row - torch.logsumexp(logits + g, 1)
            if tolerance is not None and _error(before, f, log_row) <= tolerance:
                f = before
                break
            g = log_column - torch.logsumexp(logits + f[:, None], 0)
        return (logits + f[:, None] + g).exp()


def _log_share(name: str, mass: Tensor | None, logits: Tensor, dim: int) -> Tensor:
    size = logits.shape[dim]
    if mass is None:
        return logits.new_full((size,), 1 / size).log()
    check_vector(name, mass, torch.Size(), size, lowest=0)
    if mass.device.type == "cpu" and not mass.any():
        raise ValueError(f"{name}: at least one positive number expected, got zeros only")
    share = mass.to(logits)
    return (share / share.sum()).log()


def _error(before: Tensor, after: Tensor, log_row: Tensor) -> float:
    """The largest share by which row sums are off under the old potential; empty rows have none."""
    off = torch.expm1((before - after).detach()).abs()
    return float(torch.where(log_row.isfinite(), off, 0).max())
