"""Node embeddings as a task for the runner: probes on frozen embeddings, and what can be certified."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import write_atomically
from nearfar.config import RunConfig
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.graph.certificate import Certificate, certify, plot_compactness
from nearfar.graph.config import GraphConfig
from nearfar.graph.datasets import load_dataset
from nearfar.graph.linear_probe import linear_probe
from nearfar.graph.logistic_probe import logistic_probe
from nearfar.graph.saved import save_encoder
from nearfar.optional import require
from nearfar.runtime import Runtime, generator
from nearfar.training import BatchSource, Cases, DatasetCard, Method, Task

# Drop rates at which encoders are certified, whatever they were trained with.
RATES = {"p10": 0.1, "p40": 0.4}
CERTIFICATES, PLOT = "certificates.json", "compactness.png"


class _Graph(NamedTuple):
    x: Tensor
    edge_index: Tensor


class GraphTask(Task):
    """One graph, an encoder for its nodes, and probes that say what its embeddings know.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, dataset)``, embeds all nodes, and makes its batches from ``(config, dataset,
            runtime)``.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "graph"
    metrics: ClassVar[tuple[str, ...]] = (
        "f1_micro",
        "f1_macro",
        "certified_share_p10",
        "certified_share_p40",
        "compactness_p40",
        "z_norm",
    )
    case_metrics: ClassVar[tuple[str, ...] | None] = ("f1_micro",)
    protocol: ClassVar[Mapping[str, str]] = {
        "embeddings": "of the whole graph, nothing dropped, frozen",
        "certified_share": "nodes whose contrast stays positive for all graphs within the published budget, p = .1, .4",
    }
    cases_file: ClassVar[str | None] = FILE
    report_files: ClassVar[tuple[str, ...]] = (CERTIFICATES, PLOT)

    def __init__(self, config: GraphConfig, method_class: type[Any]) -> None:
        self.config, self.method_class = config, method_class
        self.dataset = load_dataset(
            config.data, config.data_dir, split_seed=config.split_seed, normalize=config.normalize
        )
        data = self.dataset
        self.card = DatasetCard(
            name=data.name,
            digest=data.digest(),
            source=data.source,
            counts={
                "nodes": data.num_nodes,
                "edges": data.edge_index.shape[1],
                "features": data.x.shape[1],
                "classes": data.num_classes,
            },
            warnings=data.warnings,
        )

    def build(self, config: RunConfig) -> Method:
        """A freshly initialised method."""
        method: Method = self.method_class(config, self.dataset)
        return method

    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """What the method trains on."""
        source: BatchSource = self.method_class.batches(config, self.dataset, runtime)
        return source

    @torch.no_grad()
    def evaluate(self, method: Any, split: Literal["val", "test"]) -> dict[str, float]:
        """F1 of the probe, and the share of certified nodes."""
        return self._measure(method, split, samples=0)[0]

    @torch.no_grad()
    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test nodes; certificates, their plot and the predictions are kept."""
        metrics, predicted, certificates = self._measure(method, "test", samples=10)
        mask, y = self._mask("test"), self.dataset.y
        TestPredictions.of(mask.nonzero()[:, 0], y[mask], predicted[mask]).write(folder / FILE)
        summaries = {f"{one.p:g}": one.summary() for one in certificates}
        write_atomically(folder / CERTIFICATES, json.dumps(summaries, indent=2))
        if self.config.tracking.draws:
            plot_compactness(certificates, folder / PLOT)
        return metrics

    def _measure(
        self, method: Any, split: Literal["val", "test"], samples: int
    ) -> tuple[dict[str, float], Tensor, list[Certificate]]:
        method.eval()
        z = method.embed()
        data, mask = self.dataset, self._mask(split)
        predicted = self._predict(z.cpu())
        f1_score = require("sklearn.metrics", "the F1 of a probe").f1_score
        pair = (data.y[mask].numpy(), predicted[mask].numpy())
        micro, macro = (float(f1_score(*pair, average=kind)) for kind in ("micro", "macro"))
        graph = _Graph(data.x.to(z.device), data.edge_index.to(z.device))
        certificates = [
            certify(method.encoder.layers(), graph, rate, samples=samples) for rate in RATES.values()
        ]
        shares = {f"certified_share_{name}": one.share for name, one in zip(RATES, certificates, strict=True)}
        return (
            {
                "f1_micro": micro,
                "f1_macro": macro,
                **shares,
                "compactness_p40": float(certificates[-1].bound.mean()),
                "z_norm": float(z.norm(dim=1).mean()),
            },
            predicted,
            certificates,
        )

    def _predict(self, z: Tensor) -> Tensor:
        """Classes of all nodes by the configured probe, shape ``(n,)``."""
        data = self.dataset
        if self.config.probe == "logistic":
            return logistic_probe(z, data.y, data.train_mask, data.val_mask)
        selects = data.test_mask if self.config.probe == "official-swapped" else data.val_mask
        rng = generator(self.config.seed, "probe")
        return linear_probe(z, data.y, data.train_mask, selects, generator=rng)

    def _mask(self, split: Literal["val", "test"]) -> Tensor:
        if split == "test" and self.config.probe != "official-swapped":
            return self.dataset.test_mask
        return self.dataset.val_mask

    @classmethod
    def read_cases(cls, path: Path, metrics: Sequence[str]) -> Cases:
        """Whether each test node was classified right."""
        found = TestPredictions.read(path)
        return Cases("nodes", found.cases, {metric: found.right.astype(np.float64) for metric in metrics})

    @property
    def num_rows(self) -> int:
        """Nodes."""
        return self.dataset.num_nodes

    @torch.no_grad()
    def embed(self, method: Any, rows: NDArray[np.int64]) -> Tensor:
        """Embeddings of some nodes."""
        method.eval()
        z: Tensor = method.embed()
        return z[torch.from_numpy(rows).to(z.device)]

    def export(self, method: Any, folder: Path) -> None:
        """Write the encoder as :func:`nearfar.graph.load_encoder` reads it."""
        save_encoder(method.encoder, folder)
