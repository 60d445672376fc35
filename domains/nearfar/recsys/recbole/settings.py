"""What RecBole's Config holds for MCLRec: names, defaults and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from nearfar.config import Layer, Settings, resolve
from nearfar.errors import ConfigError
from nearfar.recsys.mclrec.config import AugmenterConfig, ContrastConfig, Schedule
from nearfar.recsys.mclrec.objective import Objective

CONTRAST, AUGMENTERS = ContrastConfig(), AugmenterConfig()
# Of the encoder, which has no others; RecBole's SASRec has settings for them, so they may be in somebody's file.
FIXED: Mapping[str, Any] = {
    "hidden_act": "gelu",
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "loss_type": "CE",
}


class RecBoleSettings(Settings):
    """Flat settings, as RecBole's are; those of the encoder have the names of its SASRec.

    Those of the contrast have names of their own: ``lambda`` is a word of Python, and ``beta``, ``eta`` and
    ``mask_ratio`` are read by RecBole's transforms.
    """

    n_layers: int = Field(2, ge=1, le=32, description="Transformer layers.")
    n_heads: int = Field(2, ge=1, le=64, description="Attention heads; must divide hidden_size.")
    hidden_size: int = Field(64, ge=4, le=4096, description="Width of embeddings and layers.")
    inner_size: int = Field(256, ge=1, le=65536, description="Width of the feed-forward layers.")
    hidden_dropout_prob: float = Field(0.5, ge=0, lt=1, description="Dropout of embeddings and layers.")
    attn_dropout_prob: float = Field(0.5, ge=0, lt=1, description="Dropout of attention weights.")

    cl_schedule: Schedule = Field(
        "simultaneous", description="As of MCLRecConfig; 'paper' and 'official' need MCLRecTrainer."
    )
    lmd: float = Field(CONTRAST.weight, ge=0, le=100, description="Weight of L_cl1 (lambda).")
    cl_beta: float = Field(
        AUGMENTERS.weight, ge=0, le=100, description="Weight of L_cl2 (beta); 0 leaves augmenters out."
    )
    cl_regulariser_weight: float = Field(
        AUGMENTERS.regulariser_weight, ge=0, le=100, description="Weight of R relative to L_cl2 (gamma/beta)."
    )
    cl_regulariser: Literal["row", "batch"] = Field(
        AUGMENTERS.regulariser,
        description="R per row, as in the official code, or per batch, as in the paper.",
    )
    cl_augmenters: Literal["learned", "frozen", "identity"] = Field(
        AUGMENTERS.kind, description="Trained, left at their first weights, or plain normalisation instead."
    )
    cl_shared: bool = Field(AUGMENTERS.shared, description="One augmenter for both views.")
    cl_temperature: float = Field(
        CONTRAST.temperature, ge=0.01, le=100, description="Softmax temperature of the data views."
    )
    cl_similarity: Literal["dot", "cosine"] = Field(
        CONTRAST.similarity, description="How two data views are compared."
    )
    cl_false_negatives: Literal["keep", "same_user", "same_target"] = Field(
        CONTRAST.false_negatives, description="Rows that are no negatives of each other."
    )
    cl_crop_ratio: float = Field(
        CONTRAST.crop_ratio, ge=0, lt=1, description="Share of a history removed by crop."
    )
    cl_mask_ratio: float = Field(
        CONTRAST.mask_ratio, ge=0, lt=1, description="Share of a history hidden by mask."
    )
    cl_reorder_ratio: float = Field(
        CONTRAST.reorder_ratio, ge=0, le=1, description="Share of a history shuffled by reorder."
    )

    @model_validator(mode="after")
    def _check(self) -> RecBoleSettings:
        if self.hidden_size % self.n_heads:
            raise ValueError(f"n_heads ({self.n_heads}) must divide hidden_size ({self.hidden_size})")
        return self

    @property
    def objective(self) -> Objective:
        """The contrastive terms, their weights and their schedule."""
        contrast = ContrastConfig(
            weight=self.lmd, temperature=self.cl_temperature, similarity=self.cl_similarity
        )
        augmenters = AugmenterConfig(
            weight=self.cl_beta,
            regulariser_weight=self.cl_regulariser_weight,
            regulariser=self.cl_regulariser,
            kind=self.cl_augmenters,
            shared=self.cl_shared,
        )
        return Objective(contrast, augmenters, self.cl_schedule)

    @classmethod
    def recbole_defaults(cls) -> dict[str, Any]:
        """What RecBole's Config needs to know about the model before the user's own settings."""
        # Full softmax needs no sampled negatives, which RecBole draws unless told otherwise; and the rows of a batch
        # are the negatives of the contrast, of which the paper takes 256.
        return {**FIXED, "train_neg_sample_args": None, "train_batch_size": 256, **cls().model_dump()}

    @classmethod
    def read(cls, config: Any) -> RecBoleSettings:
        """The settings in a RecBole Config; what it lacks has its default.

        Args:
            config: Anything that answers ``config[name]`` with ``None`` for an unknown name.

        Raises:
            ConfigError: If a value is of the wrong type or out of bounds; names the field and the value.
        """
        for name, value in FIXED.items():
            given = config[name]
            if given is not None and given != value:
                raise ConfigError(
                    f"{name}: MCLRec has {value!r} only, got {given!r}; remove it from the config"
                )
        given = {name: config[name] for name in cls.model_fields}
        return resolve(
            cls,
            [Layer("RecBole config", {name: value for name, value in given.items() if value is not None})],
        )
