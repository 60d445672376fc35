"""Settings shared by the methods for long tails: data, encoder, the classifier of the second stage, protocol."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from nearfar.classification.settings import EncoderName, ImbalanceConfig, NoiseConfig
from nearfar.config import OptimConfig, RunConfig, SelectionConfig
from nearfar.longtail.heads.config import HeadConfig


class LongTailConfig(RunConfig):
    """Data, encoder and evaluation of every method for long tails."""

    data: str = Field(
        "superclass-digits",
        description="superclass-digits, digits, cifar10, cifar100, or an .npz file with x_train, y_train, x_test, "
        "y_test and, to be looked for only, y_train_fine, y_test_fine.",
    )
    imbalance: ImbalanceConfig = ImbalanceConfig(ratio=None)
    noise: NoiseConfig = NoiseConfig(rate=0.0)
    validation: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of every class held out of training to select by; with 0 the validation metrics are those "
        "on the training rows.",
    )
    encoder: EncoderName = Field("auto", description="auto: by the shape of a row.")
    batch_size: int = Field(128, ge=2, le=65_536, description="Rows of a step.")
    epochs: int = Field(80, ge=0, description="Passes over the training rows.")
    head: HeadConfig = HeadConfig()
    copies: int = Field(
        0,
        ge=0,
        le=1000,
        description="Second stage: weakly changed versions of every row that it is trained on; 0 takes rows as they "
        "are.",
    )
    optim: OptimConfig = OptimConfig(lr=3e-3, schedule="cosine")
    selection: SelectionConfig = SelectionConfig(
        metric="val/balanced_accuracy", mode="max", take="last", every=20
    )

    @model_validator(mode="after")
    def _heads_are_saved(self) -> Self:
        if self.head.kind == "knn":
            raise ValueError(
                "head.kind=knn: votes of training rows are no weights to save; nearfar.longtail.fit_head has them"
            )
        return self
