"""MCLRec as RecBole sees it: one padded row per prefix in, losses and scores out.

Imported by :func:`~nearfar.recsys.recbole.register_recbole` only, inside the scope RecBole needs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from nearfar.recsys.recbole.settings import RecBoleSettings
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.runtime import generator


class MCLRec(SequentialRecommender):  # type: ignore[misc]  # RecBole is untyped
    """MCLRec (Qin et al., SIGIR 2023) on nearfar's encoder, augmentations and losses.

    The encoder is ``encoder``, a :class:`~nearfar.recsys.sasrec.SASRecEncoder` whose item numbers are RecBole's.

    Args:
        config: RecBole's Config.
        dataset: RecBole's training data set.

    Raises:
        ConfigError: If a setting is of the wrong type or out of bounds.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.steps_done = 0
        s = self.settings = RecBoleSettings.read(config)
        self.seed = int(config["seed"])
        self.encoder = SASRecEncoder(
            self.n_items - 1,  # RecBole counts padding
            max_length=self.max_seq_length,
            dim=s.hidden_size,
            num_layers=s.n_layers,
            num_heads=s.n_heads,
            inner_dim=s.inner_size,
            dropout=s.hidden_dropout_prob,
            attention_dropout=s.attn_dropout_prob,
            generator=generator(self.seed, "init"),
        )

    @staticmethod
    def defaults() -> dict[str, Any]:
        """What Config takes for this model where the user says nothing."""
        return RecBoleSettings.recbole_defaults()

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Next-item cross-entropy over all items.

        Args:
            interaction: Prefixes with their next items.

        Returns:
            A scalar.
        """
        return F.cross_entropy(
            self.encoder.logits(self.states(interaction)), interaction[self.POS_ITEM_ID] - 1
        )

    def states(self, interaction: Any) -> Tensor:
        """User vectors of RecBole's rows, shape ``(B, d)``, computed at the longest length of the batch."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        items = interaction[self.ITEM_SEQ][:, : int(lengths.max())]
        return self.encoder.last(items, lengths)

    def predict(self, interaction: Any) -> Tensor:
        """Score of one item per row, shape ``(B,)``."""
        candidates: Tensor = self.encoder.item(interaction[self.ITEM_ID])
        return (self.states(interaction) * candidates).sum(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, shape ``(B, n_items)``; column 0 is padding, which nobody gets recommended."""
        return F.pad(self.encoder.logits(self.states(interaction)), (1, 0), value=-torch.inf)
