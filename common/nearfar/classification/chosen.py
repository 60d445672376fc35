"""An objective chosen by name on two views of labelled rows, and what else it may want to see of them.

Two further views are drawn as the others are; the side features are the rows themselves, less the mean of the batch,
the surface score is the mean of a row (of an image: its brightness).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nearfar.adapters import Inputs, in_precision_of
from nearfar.classification.row_batches import RowBatch
from nearfar.errors import ConfigError
from nearfar.objectives.ranks import Ranks
from nearfar.selectable.objective import SelectedObjective
from nearfar.selectable.view_batch import ViewBatch
from nearfar.training import StepContext


def chosen_loss(
    objective: SelectedObjective,
    projected: nn.Module,
    inputs: Inputs,
    batch: RowBatch,
    ctx: StepContext,
    ranks: Ranks,
) -> Tensor:
    """The loss between two views of some rows, a scalar.

    Args:
        objective: Which loss.
        projected: Encoder and projector, ``batch -> (B, d)``.
        inputs: Makes views.
        batch: Rows of all processes.
        ctx: Of the step.
        ranks: Who encodes which.

    Raises:
        ConfigError: If the objective needs features of rows that are no tensors.
    """
    x: Any = in_precision_of(projected, batch.x)
    needs, found = objective.needs, {}
    own = ranks.own_rows

    def drawn(stream: str) -> list[Any]:
        views = inputs.two_views(x, ctx.rng(stream))
        return [
            view if ranks.group is None else view[own] for view in views
        ]  # of any kind where all are here

    views = drawn("views")
    first, second = _together(projected, views)
    if objective.slow is not None:
        found["target_first"], found["target_second"] = _together(objective.slow, views)
    if needs("more"):
        found["more"] = torch.stack(_together(projected, drawn("more_views")))
    if needs("labels"):
        found["labels"] = batch.given[own]
    if needs("rows"):
        found["rows"] = batch.rows[own]
    if needs("side") or needs("surface"):
        if not isinstance(x, Tensor):
            raise ConfigError(f"objective={objective.settings.name} needs features: rows that are tensors")
        flat = x.flatten(1)
        found["side"] = (flat - flat.mean(0))[own]
        found["surface"] = flat.mean(1)[own]
    loss: Tensor = objective(ViewBatch(first, second, ctx.rng("objective"), **found), ranks)
    return loss


def _together(encode: nn.Module, views: list[Any]) -> list[Tensor]:
    if all(isinstance(view, Tensor) for view in views):
        # One pass, so that batch normalisation sees all.
        return list(encode(torch.cat(views)).chunk(len(views)))
    return [encode(view) for view in views]
