"""Settings shared by the recommenders."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from nearfar.config import OptimConfig, RunConfig, SelectionConfig, Settings

# As of nearfar.objectives.linear_cross_entropy, which the command line does not import.
LogitDtype: TypeAlias = Literal["float32", "auto"]


class ColumnsConfig(Settings):
    """Names of the columns of a table of events; a sequence file has none."""

    user: str = Field("user_id", description="Column of user ids.")
    item: str = Field("item_id", description="Column of item ids.")
    time: str | None = Field(
        "timestamp", description="Column of times; null says that the rows are in order."
    )


class RecsysConfig(RunConfig):
    """Data policies and selection of every recommender."""

    data: str = Field(
        "ml-100k",
        description="Known name, or path of an .inter, .txt (sequences), .parquet or .csv file or its folder.",
    )
    columns: ColumnsConfig = ColumnsConfig()
    ties: Literal["row", "item"] = Field(
        "row", description="Order of one user's events at one time: that of the rows, or by item id."
    )
    duplicates: Literal["keep", "drop_consecutive", "drop", "error"] = Field(
        "keep",
        description="What to do with a repeated (user, item, time); drop_consecutive drops an item after itself.",
    )
    selection: SelectionConfig = SelectionConfig(metric="val/ndcg_at_10", mode="max", patience=5)


class SoftmaxConfig(Settings):
    """The next-item cross-entropy."""

    negatives: int | None = Field(
        None,
        ge=1,
        description="Items drawn per step, shared by all its targets; null compares with all items.",
    )
    sampling: Literal["uniform", "popularity"] = Field(
        "uniform", description="Draw them evenly, or by how often they are trained on."
    )
    logq_correction: bool = Field(True, description="Weight what is drawn by how often that happens.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Probability spread over all items; needs negatives=null."
    )
    logit_dtype: LogitDtype = Field(
        "float32", description="auto multiplies in bfloat16 where the processor can; needs negatives=null."
    )

    @model_validator(mode="after")
    def _check(self) -> SoftmaxConfig:
        if self.negatives is not None and (self.label_smoothing or self.logit_dtype != "float32"):
            raise ValueError(
                "label_smoothing and logit_dtype belong to the softmax over all items: leave them out, or set "
                "negatives=null"
            )
        return self


class SequenceModelConfig(RecsysConfig):
    """Encoder, windows and batches of models that read histories."""

    max_length: int = Field(50, ge=2, le=4096, description="Items of history the encoder sees.")
    stride: int | None = Field(
        None, ge=1, description="Items between windows of a long history; null takes half of max_length."
    )
    targets_per_batch: int = Field(1024, ge=2, description="Next items predicted per step.")
    dim: int = Field(64, ge=2, le=4096, description="Width of embeddings and layers.")
    num_layers: int = Field(2, ge=1, le=32, description="Transformer layers.")
    num_heads: int = Field(2, ge=1, le=64, description="Attention heads; must divide dim.")
    inner_dim: int = Field(256, ge=1, le=65536, description="Width of the feed-forward layers.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of embeddings and layers.")
    attention_dropout: float = Field(0.2, ge=0, lt=1, description="Dropout of attention weights.")
    average: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Momentum of averaged weights to evaluate and keep; null keeps the last ones.",
    )
    softmax: SoftmaxConfig = SoftmaxConfig()
    optim: OptimConfig = OptimConfig(lr=1e-3)

    @model_validator(mode="after")
    def _check(self) -> SequenceModelConfig:
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must divide dim ({self.dim})")
        if self.targets_per_batch < self.max_length:
            raise ValueError(
                f"targets_per_batch ({self.targets_per_batch}) must be at least max_length ({self.max_length})"
            )
        if self.stride is not None and self.stride > self.max_length:
            raise ValueError(f"stride ({self.stride}) must not exceed max_length ({self.max_length})")
        return self

    @property
    def window_stride(self) -> int:
        """Resolved ``stride``."""
        return self.stride or max(1, self.max_length // 2)
