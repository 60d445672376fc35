"""Recommendation as a task for the runner: data in, both-protocol metrics and a servable model out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.config import RunConfig
from nearfar.recsys.by_popularity import metrics_by_popularity
from nearfar.recsys.config import RecsysConfig, SequenceModelConfig
from nearfar.recsys.datasets import load_dataset
from nearfar.recsys.export import export_graphs
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.ranking import CUTOFFS, FILTERED, METRICS, protocol_metrics, target_ranks
from nearfar.recsys.ranks import FILE, TestRanks
from nearfar.recsys.recommender import Recommender
from nearfar.recsys.serving import pyfunc_arguments
from nearfar.recsys.split import leave_one_out
from nearfar.runtime import Runtime
from nearfar.training import BatchSource, Cases, DatasetCard, Method, Task


class RecsysTask(Task):
    """Interactions split leave-one-out, and a recommender for them.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, split)``, scores histories, and makes its batches from
            ``(config, split, runtime)``.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "recsys"
    metrics: ClassVar[tuple[str, ...]] = METRICS
    protocol: ClassVar[Mapping[str, str]] = {
        "split": "leave-one-out: the last item of a user is the test target, the one before it the validation target",
        "candidates": "all items",
        "ties": "against the target",
        "exclude_seen": f"both: false is <metric>, true is <metric>{FILTERED}",
        "popularity": "head, tail: items with the first, last fifth of the training events; exclude_seen false",
    }
    cases_file: ClassVar[str | None] = FILE

    def __init__(self, config: RecsysConfig, method_class: type[Any]) -> None:
        self.dataset = load_dataset(
            config.data,
            config.data_dir,
            columns=config.columns,
            ties=config.ties,
            duplicates=config.duplicates,
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
            warnings=(*data.warnings, *_notes(data, config)),
        )

    def build(self, config: RunConfig) -> Method:
        """A freshly initialised method."""
        method: Method = self.method_class(config, self.split)
        return method

    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """What the method trains on."""
        source: BatchSource = self.method_class.batches(config, self.split, runtime)
        return source

    @torch.no_grad()
    def evaluate(self, method: Any, split: Literal["val", "test"]) -> dict[str, float]:
        """HR, NDCG and MRR under both protocols; on test HR and NDCG at 10 also by popularity of the target."""
        method.eval()
        ranks = target_ranks(method.scorer.score, self.split, split)
        return protocol_metrics(ranks) if split == "val" else self._tested(ranks)

    @torch.no_grad()
    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test split, with every user's ranks kept in ``ranks.npz``."""
        method.eval()
        ranks = target_ranks(method.scorer.score, self.split, "test")
        TestRanks.of(self.split, ranks).write(folder / FILE)
        return self._tested(ranks)

    def _tested(self, ranks: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
        return protocol_metrics(ranks) | metrics_by_popularity(ranks[""], self.split)

    @classmethod
    def read_cases(cls, path: Path, metrics: Sequence[str]) -> Cases:
        """One value per user from the ranks of a run."""
        found = TestRanks.read(path)
        return Cases("users", found.users, {metric: found.values(metric) for metric in metrics})

    @torch.no_grad()
    def embed(self, method: Any, rows: NDArray[np.int64]) -> Tensor:
        """User vectors after their training histories; what a method scores items with, where it has none."""
        method.eval()
        histories = [self.split.train(int(user)) for user in self.split.users[rows]]
        encode = getattr(method.scorer, "embed", method.scorer.score)
        vectors: Tensor = encode(histories)
        return vectors

    @property
    def num_rows(self) -> int:
        """Users that are evaluated."""
        return len(self.split.users)

    def export(self, method: Any, folder: Path) -> None:
        """Write a :class:`Recommender` that knows every user's full history."""
        Recommender.from_method(method, self.dataset).save(folder)

    def export_graphs(self, method: Any, folder: Path, kind: Any) -> None:
        """Write the graphs of :func:`nearfar.recsys.export.export_graphs`."""
        export_graphs(Recommender.from_method(method, self.dataset), folder, kind)

    def log_model(self, folder: Path) -> Mapping[str, Any] | None:
        """The exported recommender as an MLflow pyfunc model."""
        return {
            "builder": f"{pyfunc_arguments.__module__}:{pyfunc_arguments.__name__}",
            "folder": str(folder),
        }


def _notes(data: Interactions, config: RecsysConfig) -> Iterator[str]:
    """What the settings make of these data."""
    long = [k for k in CUTOFFS if k > data.num_items]
    if long:
        yield (
            f"there are {data.num_items} items: a list of {' or '.join(map(str, long))} holds every target, metrics "
            "of it say nothing"
        )
    if isinstance(config, SequenceModelConfig):
        read = data.lengths - 1  # the last item of a history is a target at most
        longer = int((read > config.max_length).sum())
        if longer:
            yield (
                f"{longer:,} of {data.num_users:,} histories are longer than max_length={config.max_length}: the "
                "newest items are read, training takes all of them in windows"
            )
