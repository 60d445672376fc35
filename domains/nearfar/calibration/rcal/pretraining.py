r"""Stage one: representations without labels, by contrast of two views.

.. math:: \ell = -\log \frac{e^{\hat z^q \cdot \hat z^k / \tau}}
          {e^{\hat z^q \cdot \hat z^k / \tau} + \sum_{a \in A} e^{\hat z^q \cdot a / \tau}}

with unit projections; A is a queue of earlier keys (MoCo, He et al., CVPR 2020; the paper's choice), or all other
views of the batch (SimCLR, Chen et al., ICML 2020), which is better where a queue would hold the data itself.

Differs from the paper: its formula leaves the positive out of the denominator (section 3.2), MoCo's has it, and so has
this. Differs from MoCo: keys come from running statistics of batch normalisation, not from those of their batch, which
would tell a positive from what is queued (Cai et al., CVPR 2021, make the same choice).
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from nearfar.calibration.rcal.config import PretrainConfig
from nearfar.encoders import MLP
from nearfar.objectives import InfoNCE, KeyQueue, NTXent
from nearfar.objectives.ranks import Ranks
from nearfar.training import EMA


class Pretraining(nn.Module):
    """All of stage one but the encoder.

    Args:
        encoder: ``batch -> (B, m)``; copied for the keys of MoCo.
        dim: Width m of its representations.
        config: Temperature, sizes.
        chosen: Whether an objective chosen by name takes the place of both.

    Attributes:
        projector: Used in this stage only.
        target: Slow copy of encoder and projector; ``None`` for SimCLR.
        queue: Its earlier keys.
    """

    def __init__(self, encoder: nn.Module, dim: int, config: PretrainConfig, *, chosen: bool = False) -> None:
        super().__init__()
        self.config = config
        self.projector = MLP(dim, (dim, config.dim))
        moco = config.kind == "moco" and not chosen
        self.target = EMA(nn.Sequential(encoder, self.projector), config.momentum) if moco else None
        self.queue = KeyQueue(config.queue, config.dim) if moco else None
        self._keys: Tensor | None = None

    def train(self, mode: bool = True) -> Self:
        """As of any module; keys are always made in evaluation mode."""
        super().train(mode)
        if self.target is not None:
            self.target.eval()
        return self

    def loss(self, encoder: nn.Module, first: Any, second: Any, ranks: Ranks) -> Tensor:
        """Pick the other view.

        Args:
            encoder: What is trained.
            first: Views of this process's rows.
            second: Their other views.
            ranks: Who has which rows.
        """
        queries = self.projector(encoder(first))
        loss: Tensor
        if self.target is None or self.queue is None:
            others = self.projector(encoder(second))
            loss = NTXent(self.config.temperature, group=ranks.group)(queries, others)
            return loss
        keys = nn.functional.normalize(self.target(second), dim=1)
        self._keys = ranks.gather_rows(keys)
        # The first batch has nobody to differ from but itself.
        queue = self.queue if len(self.queue) else None
        loss = InfoNCE(self.config.temperature, group=ranks.group)(queries, keys, queue=queue)
        return loss

    @torch.no_grad()
    def after_step(self, encoder: nn.Module) -> None:
        """The slow copy follows, and the keys of the step are queued.

        Args:
            encoder: After its step.
        """
        if self.target is not None and self.queue is not None and self._keys is not None:
            self.target.update(nn.Sequential(encoder, self.projector))
            self.queue.enqueue(self._keys)
            self._keys = None
