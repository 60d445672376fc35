"""An objective chosen by name on pooled series and views, and what else it may want to see of series.

A further view is made as the second one, by other draws; a spoilt version of a series has its segments swapped, what
time-order negatives are in TeminAL (Sinha et al., 2024); the side features are the shape of the series, its means over
sixteenths of its time, the surface score is its standard deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.augment.series.time_order import swapped_segments
from nearfar.objectives.ranks import Ranks
from nearfar.selectable.view_batch import ViewBatch
from nearfar.timeseries.autotcl.views import Pair
from nearfar.timeseries.encoder.pooling import max_pool
from nearfar.training import StepContext

if TYPE_CHECKING:
    from nearfar.timeseries.autotcl.method import AutoTCL

BINS = 16


def chosen_loss(
    method: AutoTCL, x: Tensor, pair: Pair, pooled: tuple[Tensor, Tensor], ctx: StepContext, ranks: Ranks
) -> Tensor:
    """The loss between series and views that ``objective`` names, a scalar.

    Args:
        method: Has the objective, makes views and encodes.
        x: All series of the batch, shape ``(B, T, F)``.
        pair: What is contrasted of them.
        pooled: This process's, encoded, shape ``(b, D)`` each.
        ctx: Of the step.
        ranks: Who has which series.
    """
    objective = method.objective
    assert objective is not None
    own, needs, found = pair.anchor[ranks.own_rows], objective.needs, {}
    signal = own[..., method.channels.covariates :].nan_to_num()
    if objective.slow is not None:
        with torch.no_grad():
            found["target_first"] = _pooled(objective.slow, own)
            found["target_second"] = _pooled(objective.slow, pair.view[ranks.own_rows])
    if needs("more"):
        with torch.no_grad():
            further = method.pair(x, ctx, number=1).view
        found["more"] = _pooled(method.encoder, further[ranks.own_rows])[None]
    if needs("wrong"):
        swapped = swapped_segments(pair.anchor, ctx.rng("wrong", 0))
        found["wrong"] = _pooled(method.encoder, swapped[ranks.own_rows])[:, None]
    if needs("side"):
        found["side"] = _shape(signal)
    if needs("surface"):
        found["surface"] = signal.flatten(1).std(1)
    loss: Tensor = objective(ViewBatch(*pooled, ctx.rng("objective", 0), **found), ranks)
    return loss


def _pooled(encoder: Any, x: Tensor) -> Tensor:
    return max_pool(encoder(x), ~x.isnan().any(2))


def _shape(x: Tensor) -> Tensor:
    """Means over parts of the time, less the mean, shape ``(b, BINS F)``."""
    means = F.adaptive_avg_pool1d(x.mT, min(BINS, x.shape[1]))
    return (means - means.mean(2, keepdim=True)).flatten(1)
