"""An objective chosen by name on two views of histories, and what else it may want to see of them.

The label of a history is the item that came next, as in DuoRec (Qiu et al., WSDM 2022). A further view is the history
as it is; a spoilt version has another item at its end; the surface score is the length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nearfar.objectives.ranks import Ranks
from nearfar.recsys.mclrec.batches import ContrastBatch
from nearfar.selectable.view_batch import ViewBatch
from nearfar.training import StepContext

if TYPE_CHECKING:
    from nearfar.recsys.mclrec.method import MCLRec


def chosen_loss(method: MCLRec, batch: ContrastBatch, h: Tensor, ctx: StepContext) -> Tensor:
    """The contrast of data views that ``objective`` names, a scalar.

    Args:
        method: Has the objective, and encodes.
        batch: Views of histories, and the histories.
        h: User vectors of first views, then of second views, shape ``(2 B, d)``.
        ctx: Of the step.
    """
    objective, histories = method.chosen, batch.histories
    assert objective is not None
    assert batch.views is not None
    assert histories is not None
    needs, found = objective.needs, {}
    if objective.slow is not None:
        slow: Any = objective.slow.module
        with torch.no_grad():
            found["target_first"], found["target_second"] = method.encode(batch.views, slow).chunk(2)
    if needs("more"):
        found["more"] = method.encode(histories.plain)[None]
    if needs("wrong"):
        found["wrong"] = method.encode(histories.spoilt)[:, None]
    if needs("labels"):
        found["labels"] = histories.targets
    if needs("surface"):
        found["surface"] = histories.lengths.to(h.dtype)
    first, second = h.chunk(2)
    ranks = Ranks.of(ctx.runtime.group, len(first), len(first), h.device)
    loss: Tensor = objective(ViewBatch(first, second, ctx.rng("objective"), **found), ranks)
    return loss
