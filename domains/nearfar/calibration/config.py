"""Settings shared by the calibration methods: data, how they are spoilt, encoder, protocol."""

from __future__ import annotations

from pydantic import Field

from nearfar.classification.settings import EncoderName, ImbalanceConfig, NoiseConfig
from nearfar.config import OptimConfig, RunConfig, SelectionConfig


class CalibrationConfig(RunConfig):
    """Data, encoder and evaluation of every calibration method."""

    data: str = Field(
        "digits",
        description="digits, superclass-digits, cifar10, cifar100, or an .npz file with x_train, y_train, x_test, "
        "y_test.",
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
