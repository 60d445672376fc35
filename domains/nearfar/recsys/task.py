"""Recommendation as a task for the runner: data in, both-protocol metrics and a servable model out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from nearfar.config import RunConfig
from nearfar.recsys.config import RecsysConfig, SequenceModelConfig
from nearfar.recsys.datasets import load_dataset
from nearfar.recsys.ranking import METRICS, evaluate
from nearfar.recsys.recommender import Recommender
from nearfar.recsys.serving import pyfunc_arguments
from nearfar.recsys.split import leave_one_out
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime
from nearfar.training import BatchSource, DatasetCard, Method, Task


class NoBatches:
    """The data of a method that is not trained by gradient."""

    steps_per_epoch = 1

    def batch(self, step: int) -> None:
        """Never asked for."""


class RecsysTask(Task):
    """Interactions split leave-one-out, and a recommender for them.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, split)`` and scores histories.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "recsys"
    metrics: ClassVar[tuple[str, ...]] = METRICS

    def __init__(self, config: RecsysConfig, method_class: type[Any]) -> None:
        self.dataset = load_dataset(
            config.data, config.data_dir, ties=config.ties, duplicates=config.duplicates
        )
        data = self.dataset.interactions
        self.split = leave_one_out(data)
        self.method_class = method_class
        self.card = DatasetCard(
            name=self.dataset.name,
            digest=data.digest(),
            source=self.dataset.source,
            counts={
                "users": data.num_users,
                "items": data.num_items,
                "events": len(data.items),
                "evaluated_users": len(self.split.users),
            },
            warnings=data.warnings,
        )

    def build(self, config: RunConfig) -> Method:
        """A freshly initialised method."""
        method: Method = self.method_class(config, self.split)
        return method

    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """Windows of the training histories."""
        if not isinstance(config, SequenceModelConfig):
            return NoBatches()
        return WindowBatches(
            self.split,
            max_length=config.max_length,
            stride=config.window_stride,
            targets_per_batch=config.targets_per_batch,
            seed=config.seed,
            runtime=runtime,
        )

    @torch.no_grad()
    def evaluate(self, method: Any, split: Literal["val", "test"]) -> dict[str, float]:
        """HR, NDCG and MRR under both protocols."""
        method.eval()
        return evaluate(method.scorer.score, self.split, split)

    def export(self, method: Any, folder: Path) -> None:
        """Write a :class:`Recommender` that knows every user's full history."""
        Recommender.from_method(method, self.dataset).save(folder)

    def log_model(self, folder: Path) -> Mapping[str, Any] | None:
        """The exported recommender as an MLflow pyfunc model."""
        return pyfunc_arguments(folder)
