r"""Ridge regression with an intercept that is not penalised, for a whole path of penalties at once.

.. math:: \min_{W, b} \lVert Y - X W - 1 b^\top \rVert^2 + \alpha \lVert W \rVert^2

One eigendecomposition of the centred products serves every penalty: each costs a diagonal scaling. Mean squared
errors on other rows follow from the moments of those rows; absolute errors take one pass over them.

A second group of features may be held at a penalty of its own. It is taken out of the problem first (Frisch and Waugh,
"Partial Time Regressions as Compared with Individual Trends", Econometrica 1933, here with a penalty), so the path
of one group costs no more than without the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries.forecasting.moments import Moments, Samples, blocks

# TS2Vec (Yue et al., AAAI 2022), and everybody who compares with it.
ALPHAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A linear map.

    Attributes:
        weight: Shape ``(p, q)``.
        intercept: Shape ``(q,)``.
    """

    weight: Tensor
    intercept: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """Predictions from features ``(n, p)``, shape ``(n, q)``, float64."""
        return torch.addmm(self.intercept, x.double(), self.weight)


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Solutions for every penalty of one group of features, the other group held at one penalty.

    Attributes:
        alphas: Penalties.
        group: Columns whose penalty varies.
        others: Columns held at one penalty.
        mean_x: Means of all features, shape ``(p,)``.
        mean_y: Means of the targets, shape ``(q,)``.
        direct: What the others contribute by themselves, shape ``(r, q)``.
        through: How the others predict the group, shape ``(r, g)``.
        basis: Eigenvectors of the products that are left, shape ``(g, g)``.
        eigenvalues: Shape ``(g,)``.
        rotated: Products with the targets, in that basis, shape ``(g, q)``.
    """

    alphas: tuple[float, ...]
    group: slice
    others: slice
    mean_x: Tensor
    mean_y: Tensor
    direct: Tensor
    through: Tensor
    basis: Tensor
    eigenvalues: Tensor
    rotated: Tensor

    def fit(self, index: int) -> RidgeFit:
        """The solution for ``alphas[index]``."""
        inner = self.basis @ self._scaled(index)
        weight = self.mean_x.new_zeros(len(self.mean_x), len(self.mean_y))
        weight[self.others] = self.direct - self.through @ inner
        weight[self.group] = inner
        return RidgeFit(weight, self.mean_y - self.mean_x @ weight)

    def mean_squared(self, held_out: Moments) -> Tensor:
        """Mean squared error of every penalty on other rows, from their moments alone, shape ``(A,)``.

        Args:
            held_out: Moments of those rows.

        Raises:
            DataError: If there are no rows.
        """
        if not held_out.count:
            raise DataError("held_out: no rows to measure an error on; take a shorter horizon")
        # Turned into the basis once, each penalty costs products of its size instead of those of all features.
        turn = self.mean_x.new_zeros(len(self.mean_x), len(self.basis))
        turn[self.others] = -self.through @ self.basis
        turn[self.group] = self.basis
        products = turn.t() @ held_out.xx @ turn
        cross = turn.t() @ (held_out.xy - held_out.xx[:, self.others] @ self.direct)
        left = self.direct * (held_out.xx[self.others, self.others] @ self.direct)
        squares = held_out.yy + (left - 2 * self.direct * held_out.xy[self.others]).sum(0)
        apart = held_out.mean_x - self.mean_x
        shift = held_out.mean_y - self.mean_y - apart[self.others] @ self.direct
        apart = apart @ turn
        errors = []
        for index in range(len(self.alphas)):
            weight = self._scaled(index)
            centered = squares + (weight * (products @ weight - 2 * cross)).sum(0)
            # Of a perfect fit rounding may leave less than nothing.
            errors.append((centered.clamp_min(0) / held_out.count + (shift - apart @ weight).square()).mean())
        return torch.stack(errors)

    def mean_absolute(self, samples: Samples, rows: range, horizon: int) -> Tensor:
        """Mean absolute error of every penalty on other rows, in one pass over them, shape ``(A,)``.

        Args:
            samples: Features and targets of the same columns.
            rows: Where forecasts start.
            horizon: Rows to forecast.

        Raises:
            DataError: If there are no rows.
        """
        if not len(rows):
            raise DataError("rows: none to measure an error on; take a shorter horizon")
        scaled = [self._scaled(index) for index in range(len(self.alphas))]
        totals = self.mean_x.new_zeros(len(self.alphas))
        for block in blocks(rows, len(self.mean_x) + 2 * len(self.mean_y)):
            x = samples.features(block) - self.mean_x
            rest = samples.targets(block, horizon) - self.mean_y
            inner = x[:, self.group]
            if x.shape[1] > inner.shape[1]:
                others = x[:, self.others]
                rest = torch.addmm(rest, others, self.direct, alpha=-1)
                inner = torch.addmm(inner, others, self.through, alpha=-1)
            inner = inner @ self.basis
            for index, weight in enumerate(scaled):
                totals[index] += torch.addmm(rest, inner, weight, alpha=-1).abs_().sum()
        return totals / (len(rows) * len(self.mean_y))

    def _scaled(self, index: int) -> Tensor:
        return self.rotated / (self.eigenvalues + self.alphas[index]).unsqueeze(1)


def ridge_path(
    moments: Moments,
    alphas: tuple[float, ...] = ALPHAS,
    *,
    group: slice | None = None,
    others: slice | None = None,
    others_alpha: float = 1.0,
) -> RidgePath:
    """Solve for every penalty.

    Args:
        moments: Of the rows to learn from.
        alphas: Penalties of the group, all positive.
        group: Columns whose penalty varies; all of them without it.
        others: Columns held at one penalty; none without it. Columns in neither group have no weight.
        others_alpha: Penalty of the others.

    Raises:
        ConfigError: If a penalty is not positive.
        DataError: If there are no rows, or a product is not finite.

    Example:
        >>> moments = Moments.empty(1, 1)
        >>> moments.add(torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[-2.0], [0.0], [2.0]]))
        >>> path = ridge_path(moments, (2.0, 6.0))  # 2 + 2 products of 1 by 2, over 2 + alpha
        >>> path.fit(0).weight.item(), path.fit(1).weight.item()
        (1.0, 0.5)
    """
    if not alphas or min((*alphas, others_alpha)) <= 0:
        raise ConfigError(
            f"alphas: positive numbers expected, got {alphas} and {others_alpha} for the others"
        )
    if not moments.count:
        raise DataError("moments: no rows to learn from; take a shorter horizon or a longer series")
    if not (moments.xx.isfinite().all() and moments.xy.isfinite().all()):
        raise DataError("moments: features or targets are not finite; replace NaN and infinite values first")
    group, others = group or slice(None), others or slice(0, 0)
    inner, target = moments.xx[group, group], moments.xy[group]
    cross = moments.xx[others, group]
    if len(cross):
        held = moments.xx[others, others].clone()
        held.diagonal().add_(others_alpha)
        factor = torch.linalg.cholesky(held)
        direct = torch.cholesky_solve(moments.xy[others], factor)
        through = torch.cholesky_solve(cross, factor)
        inner, target = inner - cross.t() @ through, target - cross.t() @ direct
    else:
        direct, through = moments.xy[others], cross
    eigenvalues, basis = torch.linalg.eigh((inner + inner.t()) / 2)
    return RidgePath(
        alphas,
        group,
        others,
        moments.mean_x,
        moments.mean_y,
        direct,
        through,
        basis,
        eigenvalues.clamp_min(0),
        basis.t() @ target,
    )
