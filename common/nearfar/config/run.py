"""What every run of every domain can be told, whatever the method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from nearfar.config.settings import Settings
from nearfar.optional import installed

OptimizerName: TypeAlias = Literal["adam", "adamw", "sgd", "lion"]


class OptimConfig(Settings):
    """Optimiser and learning-rate schedule."""

    name: OptimizerName = Field("adam", description="Optimiser; lion takes rates 3 to 10 times lower.")
    lr: float = Field(1e-3, gt=0, le=10, description="Peak learning rate.")
    weight_decay: float = Field(0.0, ge=0, le=10, description="Weight decay.")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: share of the last step in the next.")
    clip_norm: float | None = Field(
        None, gt=0, description="Largest global gradient norm; null leaves it alone."
    )
    schedule: Literal["constant", "cosine"] = Field("constant", description="Learning rate over the run.")
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of the run with a linearly rising rate.")


class SelectionConfig(Settings):
    """When to validate, what decides, when to stop."""

    metric: str = Field("val/loss", description="Validation metric that picks the best epoch.")
    mode: Literal["max", "min"] = Field("min", description="Whether more of it is better.")
    take: Literal["best", "last"] = Field(
        "best", description="Weights that are kept: of the best validation, or of the last, whatever it says."
    )
    tolerance: float = Field(
        0.0,
        ge=0,
        description="Validations this close count as equal, and the first of equals, the start before all, is chosen: "
        "for small validation sets, whose differences are noise.",
    )
    every: int = Field(1, ge=1, description="Epochs between validations.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations without a new best; null never stops early."
    )


class CheckpointConfig(Settings):
    """How often the run saves itself, and how much it keeps."""

    every_minutes: float = Field(5.0, gt=0, description="Longest time between checkpoints, minutes.")
    every_fraction: float = Field(0.1, gt=0, le=1, description="Largest share of the run between them.")
    every_steps: int | None = Field(None, ge=1, description="Save at multiples of so many steps as well.")
    keep: int = Field(2, ge=1, description="Latest checkpoints kept, beside the best one.")


class TrackingConfig(Settings):
    """Where the run is recorded."""

    enabled: bool = Field(True, description="Record the run in MLflow.")
    uri: str | None = Field(
        None, description="MLflow store; null takes MLFLOW_TRACKING_URI or mlruns/mlflow.db."
    )
    flush_seconds: float = Field(2.0, gt=0, le=60, description="Longest time a value waits to be sent.")
    log_model: bool = Field(True, description="Store the trained model with its signature.")
    plots: bool = Field(True, description="Draw curves and whatever else the method shows, with matplotlib.")

    @property
    def draws(self) -> bool:
        """Whether there are plots: they are wanted, and matplotlib is installed."""
        return self.plots and installed("matplotlib")


class RunConfig(Settings):
    """The keys that every recipe has; a method's config adds its own below them."""

    data: str = Field(description="Name of a known data set, or a path.")
    data_dir: Path | None = Field(None, description="Folder to look for the data in.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(0, description="Decides every random draw.")
    epochs: int = Field(20, ge=0, description="Passes over the training data.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    num_threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of torch; null leaves it alone. Exact repeats need the same count.",
    )
    output_dir: Path | None = Field(
        None, description="Folder of the run; null makes outputs/<data>/<method>-<hash>-s<seed>."
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16 runs forward passes under autocast; weights stay float32."
    )
    compile: bool = Field(False, description="Compile the method's modules with torch.compile.")
    deterministic: bool = Field(
        False, description="On CUDA, exact repeats at some cost; CPU runs repeat exactly anyway."
    )
    loader_workers: int = Field(0, ge=0, le=64, description="Threads that prepare the next batches.")
    log_every: int = Field(20, ge=1, description="Steps between fetches of losses from the device.")
    optim: OptimConfig = OptimConfig()
    selection: SelectionConfig = SelectionConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
