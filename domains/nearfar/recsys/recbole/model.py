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

from nearfar.augment import two_views
from nearfar.errors import ConfigError
from nearfar.objectives.linear_cross_entropy import linear_cross_entropy
from nearfar.recsys.mclrec.augmenters import Augmenters
from nearfar.recsys.mclrec.batches import Views
from nearfar.recsys.recbole.settings import RecBoleSettings
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.runtime import generator
from nearfar.runtime.transfer import to_device

Parts = tuple[Tensor, ...]


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
        s = self.settings = RecBoleSettings.read(config)
        self.objective = s.objective
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

        self.augmenters = Augmenters(s.hidden_size, s.cl_augmenters, shared=s.cl_shared, seed=self.seed)
        # Numbers the draws of augmentations; RecBole keeps it in checkpoints.
        self.steps_done = 0
        self.other_parameter_name = ["steps_done"]

    @staticmethod
    def defaults() -> dict[str, Any]:
        """What Config takes for this model where the user says nothing."""
        return RecBoleSettings.recbole_defaults()

    def calculate_loss(self, interaction: Any) -> Parts:
        """The parts of the loss, which RecBole adds up and logs one by one.

        Args:
            interaction: Prefixes with their next items.

        Returns:
            As of :meth:`encoder_losses`.

        Raises:
            ConfigError: If the schedule makes several updates per batch; those are :class:`MCLRecTrainer`'s.
        """
        if self.objective.alternates:
            raise ConfigError(
                f"cl_schedule '{self.settings.cl_schedule}' makes several updates per batch, RecBole's Trainer one: "
                "train with the MCLRecTrainer that get_trainer(...) finds, or set 'simultaneous' or 'joint'"
            )
        return self.encoder_losses(interaction, self.draw_views(interaction))

    def draw_views(self, interaction: Any) -> Views | None:
        """Two views of every row, ``None`` where no term needs them; the same again for the same number of steps."""
        s, step = self.settings, self.steps_done
        self.steps_done += 1
        if s.lmd == 0 and s.cl_beta == 0:
            return None
        views = two_views(
            *self._rows(interaction),
            generator(self.seed, "augment", step),
            crop_ratio=s.cl_crop_ratio,
            mask_ratio=s.cl_mask_ratio,
            reorder_ratio=s.cl_reorder_ratio,
        )
        field = {"same_user": self.USER_ID, "same_target": self.POS_ITEM_ID}.get(s.cl_false_negatives)
        rows = Views.of(
            torch.cat([items for items, _ in views]),
            torch.cat([lengths for _, lengths in views]),
            None if field is None else interaction[field],
        )
        moved: Views = to_device(rows, self.encoder.item.weight.device)
        return moved

    def encoder_losses(self, interaction: Any, views: Views | None) -> Parts:
        """Next-item loss, and the weighted L_cl1, L_cl2 and R of those that have a weight.

        With "simultaneous" the augmenters' own gradient comes along, with weight 1, in those of L_cl2 and R; with
        "joint" they have the encoder's; else they are constants.

        Args:
            interaction: Prefixes with their next items.
            views: Of these, from :meth:`draw_views`.

        Returns:
            Scalars.
        """
        rows = to_device(Views.of(*self._rows(interaction)), self.encoder.item.weight.device)
        targets = interaction[self.POS_ITEM_ID] - 1
        parts = [linear_cross_entropy(self._encode(rows), self.encoder.item.weight[1:], targets)]
        if views is not None:
            terms = self.objective.encoder_terms(self._encode(views), self.augmenters, views.ids)
            parts += [self.objective.weighted({name: term}) for name, term in terms.items()]
        return tuple(parts)

    def augmenter_losses(self, views: Views) -> Parts:
        """L_cl2 and the weighted R for the augmenters; user vectors are constants."""
        with torch.no_grad():
            h = self._encode(views)
        terms = self.objective.augmenter_terms(h, self.augmenters, views.ids)
        return terms["cl2"], self.objective.own_regulariser_weight * terms["reg"]

    def _encode(self, rows: Views) -> Tensor:
        """User vectors in the order of the rows before they were sorted."""
        return self.encoder.last_of_groups(rows.pieces())[rows.order]

    def _rows(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Histories without padding beyond the longest, and their lengths, in host memory."""
        lengths = interaction[self.ITEM_SEQ_LEN].cpu()
        return interaction[self.ITEM_SEQ][:, : int(lengths.max())].cpu(), lengths

    def states(self, interaction: Any) -> Tensor:
        """User vectors of RecBole's rows, shape ``(B, d)``, computed at the longest length of the batch."""
        items, lengths = self._rows(interaction)
        device = self.encoder.item.weight.device
        return self.encoder.last(items.to(device), lengths.to(device))

    def predict(self, interaction: Any) -> Tensor:
        """Score of one item per row, shape ``(B,)``."""
        candidates: Tensor = self.encoder.item(interaction[self.ITEM_ID])
        return (self.states(interaction) * candidates).sum(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, shape ``(B, n_items)``; column 0 is padding, which nobody gets recommended."""
        return F.pad(self.encoder.logits(self.states(interaction)), (1, 0), value=-torch.inf)
