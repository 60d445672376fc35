r"""MCLRec as a method: next-item loss plus the contrast of two augmented views of histories.

.. math:: L = L_{rec} + \lambda L_{cl1}

Differs from the official code: the next-item loss is position-parallel over whole windows (equal to its
one row per prefix), while the contrast is taken over ``contrast.rows`` prefixes drawn uniformly from all
training prefixes, the law by which the official batches are drawn. Its learnable augmenters (L_cl2 and
the regulariser R) are not part of this module yet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.augment import two_views
from nearfar.errors import ConfigError
from nearfar.objectives import contrast
from nearfar.recsys.mclrec.config import MCLRecConfig
from nearfar.recsys.sasrec.method import SASRec
from nearfar.recsys.split import LeaveOneOut
from nearfar.recsys.windows import SequenceBatch
from nearfar.training import StepContext, StepOutput


class MCLRec(SASRec):
    """SASRec regularised by contrast between augmented histories.

    Args:
        config: Sizes, dropout and the contrast.
        split: Training histories; fixes the number of items and the prefixes to draw from.
    """

    def __init__(self, config: MCLRecConfig, split: LeaveOneOut) -> None:
        super().__init__(config, split)
        self.contrast = config.contrast
        data = split.data
        # One prefix per training target: it ends where the target stands and begins with the user.
        place = torch.arange(len(data.items))
        begin = torch.from_numpy(data.offsets[:-1]).repeat_interleave(torch.from_numpy(data.lengths))
        end = torch.from_numpy(split.train_ends).repeat_interleave(torch.from_numpy(data.lengths))
        is_target = (place > begin) & (place < end)
        # Views are drawn and augmented on the host and sent in one piece, so that a GPU is never waited
        # for; hence plain tensors, which stay where they are, rather than buffers.
        self.items = torch.from_numpy(data.items)
        self.prefix_ends, self.first_items = place[is_target], begin[is_target]

    def step(self, batch: SequenceBatch, ctx: StepContext) -> StepOutput:
        """Next-item loss of the batch plus the contrast of freshly drawn prefixes."""
        rec = self._recommendation_loss(batch, ctx)
        terms = {"rec": rec}
        loss = rec
        if self.contrast.weight > 0:
            cl1 = self._view_contrast(ctx)
            terms["cl1"] = cl1
            loss = rec + self.contrast.weight * cl1
        return StepOutput(loss, terms)

    def _view_contrast(self, ctx: StepContext) -> Tensor:
        if ctx.runtime.world_size > 1:
            raise ConfigError(
                "contrast.weight: contrast over several processes is not available yet; "
                "start one process, or set contrast.weight=0"
            )
        c = self.contrast
        items, lengths = self.draw_prefixes(c.rows, ctx.rng("rows"))
        (a, a_len), (b, b_len) = two_views(
            items,
            lengths,
            ctx.rng("augment"),
            crop_ratio=c.crop_ratio,
            mask_ratio=c.mask_ratio,
            reorder_ratio=c.reorder_ratio,
        )
        device = ctx.runtime.device
        views = self.scorer.last(torch.cat([a, b]).to(device), torch.cat([a_len, b_len]).to(device))
        return contrast(
            views, positives=("paired", c.rows), temperature=c.temperature, similarity=c.similarity
        )

    def draw_prefixes(self, rows: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Prefixes drawn uniformly from all training prefixes: items ``(rows, L)`` and lengths."""
        chosen = torch.randint(len(self.prefix_ends), (rows,), generator=rng)
        end, begin = self.prefix_ends[chosen], self.first_items[chosen]
        lengths = (end - begin).clamp(max=self.scorer.max_length)
        position = torch.arange(int(lengths.max()))
        index = (end - lengths)[:, None] + position
        inside = position < lengths[:, None]
        return self.items[index.clamp(max=len(self.items) - 1)] * inside, lengths
