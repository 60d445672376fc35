"""Settings shared by the calibration methods: data, how they are spoilt, encoder, protocol."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from nearfar.config import OptimConfig, RunConfig, SelectionConfig, Settings

NoiseKind: TypeAlias = Literal["imb", "sym", "sym-inclusive", "pair", "pair-next", "rolt-new"]
EncoderName: TypeAlias = Literal["auto", "small_cnn", "resnet32", "resnet18", "mlp", "identity"]


class ImbalanceConfig(Settings):
    """How the classes of the training part are thinned out."""

    ratio: float = Field(10.0, ge=1, le=100_000, description="Largest class to smallest; 1 keeps them equal.")
    profile: Literal["exp", "step"] = Field("exp", description="Sizes fall geometrically, or in one step.")
    largest: int | None = Field(None, ge=1, description="Rows of the largest class; null is all it has.")


class NoiseConfig(Settings):
    """How labels of the training part are made wrong, after it was thinned out."""

    rate: float = Field(0.4, ge=0, lt=1, description="Share of wrong labels.")
    kind: NoiseKind = Field(
        "imb",
        description="imb: to other classes by their size (RCAL); sym, sym-inclusive, pair, pair-next, rolt-new.",
    )


class CalibrationConfig(RunConfig):
    """Data, encoder and evaluation of every calibration method."""

    data: str = Field(
        "digits",
        description="digits, cifar10, cifar100 or an .npz file with x_train, y_train, x_test, y_test.",
    )
    spoil: bool = Field(
        True, description="Thin out classes and make labels wrong; false takes the data as they are."
    )
    imbalance: ImbalanceConfig = ImbalanceConfig()
    noise: NoiseConfig = NoiseConfig()
    validation: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of every class held out of training, under its given labels, to select by; with 0 the "
        "validation metrics are those on the training rows.",
    )
    encoder: EncoderName = Field("auto", description="auto: by the shape of a row.")
    batch_size: int = Field(128, ge=2, le=65_536, description="Rows of a step.")
    epochs: int = Field(
        220, ge=0, description="Passes over the training rows, those without labels included."
    )
    optim: OptimConfig = OptimConfig(name="sgd", lr=0.01, weight_decay=5e-4)
    selection: SelectionConfig = SelectionConfig(
        metric="val/balanced_accuracy", mode="max", take="last", every=20
    )
