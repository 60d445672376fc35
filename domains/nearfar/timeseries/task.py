"""Representations of series as a task for the runner: forecasts or classes from them, and from nothing.

The metric to select by is ``error`` in both: RMSE + MAE, mean over horizons, or one minus accuracy. The classification
sets have no validation part; five-fold cross-validation of the classifier on the training series, three times, stands
for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import write_atomically
from nearfar.config import RunConfig
from nearfar.data.predictions import FILE, TestPredictions
from nearfar.runtime import Runtime
from nearfar.timeseries.classification.cross_validation import cross_validated_accuracy
from nearfar.timeseries.classification.knn_probe import nearest_neighbor_baseline
from nearfar.timeseries.classification.probe import classify
from nearfar.timeseries.config import TimeSeriesConfig
from nearfar.timeseries.datasets import ForecastDataset, load_dataset
from nearfar.timeseries.forecasting.evaluation import HorizonScore, forecast_scores
from nearfar.timeseries.inputs import forecast_inputs
from nearfar.timeseries.mask_plot import plot_masks
from nearfar.timeseries.representations import forecast_representations, series_representations
from nearfar.timeseries.saved import save_encoder
from nearfar.training import BatchSource, Cases, DatasetCard, Method, Task

REPEATS = 3
SCORES, MASKS = "scores.json", "masks.png"
Split = Literal["val", "test"]


class SeriesTask(Task):
    """A data set of series, an encoder for them, and probes that say what its representations know.

    Args:
        config: Settings of the method.
        method_class: Takes ``(config, dataset)``, has ``trained``, the encoder to use, and makes its batches from
            ``(config, dataset, runtime)``.

    Raises:
        DataError: If the data cannot be found, read or used.
    """

    domain: ClassVar[str] = "timeseries"
    metrics: tuple[str, ...] = ("error", "accuracy")  # type: ignore[misc] # of forecasts: one pair a horizon
    case_metrics: ClassVar[tuple[str, ...] | None] = ("accuracy",)
    protocol: ClassVar[Mapping[str, str]] = {
        "forecast": "every start in the part, standardised scale, mean over starts, steps and channels",
        "validation": "of classification: 5-fold cross-validation on the training series, three times",
    }
    cases_file: ClassVar[str | None] = FILE
    report_files: ClassVar[tuple[str, ...]] = (SCORES, MASKS)

    def __init__(self, config: TimeSeriesConfig, method_class: type[Any]) -> None:
        self.config, self.method_class = config, method_class
        self.dataset = load_dataset(
            config.data,
            config.data_dir,
            features=config.features,
            target=config.target,
            horizons=config.horizons,
            window=config.window,
        )
        data = self.dataset
        if isinstance(data, ForecastDataset):
            parts = [f"{kind}_h{h}" for h in data.horizons for kind in ("mse", "mae")]
            self.metrics = ("error", "mse_avg", "mae_avg", *parts)
            counts = {"steps": len(data.values), "channels": data.values.shape[1]}
        else:
            counts = {
                "train": len(data.x_train),
                "test": len(data.x_test),
                "steps": data.x_train.shape[1],
                "channels": data.x_train.shape[2],
                "classes": len(data.classes),
            }
        # One name, one table: the univariate and the multivariate task of a data set are not compared.
        name = (
            f"{data.name}-multivariate"
            if isinstance(data, ForecastDataset) and config.features == "M"
            else data.name
        )
        self.card = DatasetCard(name, data.digest(), data.source, counts, data.warnings)

    def build(self, config: RunConfig) -> Method:
        """A freshly initialised method."""
        method: Method = self.method_class(config, self.dataset)
        return method

    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """What the method trains on."""
        source: BatchSource = self.method_class.batches(config, self.dataset, runtime)
        return source

    def evaluate(self, method: Any, split: Split) -> dict[str, float]:
        """Errors of forecasts, or of classes."""
        method.eval()
        if isinstance(self.dataset, ForecastDataset):
            return _summary(self._scores(self._phi(method.trained), split))
        if split == "test":
            return _of_accuracy(self._accuracy(self._predicted(method.trained)))
        z, y = series_representations(method.trained, self.dataset.x_train), self.dataset.y_train
        # One pass over few series tells two encoders apart by a series or two.
        return _of_accuracy(
            fmean(cross_validated_accuracy(z, y, self.config.classifier, seed=r) for r in range(REPEATS))
        )

    def test(self, method: Any, folder: Path) -> dict[str, float]:
        """The same on the test part, and what it would be without training, or without an encoder."""
        method.eval()
        untrained: Any = method  # of one that is not trained, the same again
        if method.updates(0):
            untrained = self.build(self.config).to(next(method.parameters()).device).eval()
        if isinstance(self.dataset, ForecastDataset):
            metrics = self._test_forecasts(method, untrained, folder)
        else:
            metrics = self._test_classes(method, untrained, folder)
        if self.config.tracking.draws and getattr(method, "augmenter", None) is not None:
            plot_masks(method.augmenter, self._examples(), folder / MASKS)
        return metrics

    def _test_forecasts(self, method: Any, untrained: Any, folder: Path) -> dict[str, float]:
        probe = self.config.probe
        ours = self._scores(self._phi(method.trained), "test")
        baselines = {
            "last_value": self._scores(None, "test", "last"),
            "seasonal_naive": self._scores(None, "test", "seasonal"),
            "lags": self._scores(None, "test", "residual"),
            "untrained": ours if untrained is method else self._scores(self._phi(untrained.trained), "test"),
        }
        told = {"ours": ours, **baselines}
        content = {name: [vars(score) for score in scores] for name, scores in told.items()}
        write_atomically(folder / SCORES, json.dumps({"probe": probe, "scores": content}, indent=1))
        metrics = _summary(ours)
        for name, scores in baselines.items():
            summary = _summary(scores)
            metrics |= {f"baseline_{name}_{key}": summary[key] for key in ("error", "mse_avg", "mae_avg")}
        metrics["gain_over_untrained"] = metrics["baseline_untrained_mse_avg"] - metrics["mse_avg"]
        metrics["gain_over_lags"] = metrics["baseline_lags_mse_avg"] - metrics["mse_avg"]
        for score, lags in zip(ours, baselines["lags"], strict=True):
            metrics[f"gain_over_lags_h{score.horizon}"] = lags.mse - score.mse
        return metrics

    def _test_classes(self, method: Any, untrained: Any, folder: Path) -> dict[str, float]:
        data = self.dataset
        assert not isinstance(data, ForecastDataset)
        predicted = self._predicted(method.trained)
        TestPredictions.of(data.x_test, data.y_test, predicted).write(folder / FILE)
        metrics = _of_accuracy(self._accuracy(predicted))
        nearest = nearest_neighbor_baseline(data.x_train, data.y_train, data.x_test)
        metrics["baseline_nearest_neighbor_accuracy"] = self._accuracy(nearest)
        floor = predicted if untrained is method else self._predicted(untrained.trained)
        metrics["baseline_untrained_accuracy"] = self._accuracy(floor)
        metrics["gain_over_untrained"] = metrics["accuracy"] - metrics["baseline_untrained_accuracy"]
        return metrics

    def _phi(self, encoder: Any) -> Tensor:
        assert isinstance(self.dataset, ForecastDataset)
        return forecast_representations(encoder, self.dataset, self.config)

    def _scores(self, phi: Tensor | None, split: Split, probe: Any = None) -> list[HorizonScore]:
        assert isinstance(self.dataset, ForecastDataset)
        return forecast_scores(
            self.dataset,
            phi,
            probe=probe or self.config.probe,
            first=self.config.window - 1,
            parts=(split,),
        )[split]

    def _predicted(self, encoder: Any) -> Tensor:
        """Classes of the test series, shape ``(M,)``."""
        data = self.dataset
        assert not isinstance(data, ForecastDataset)
        z_train, z_test = (series_representations(encoder, x) for x in (data.x_train, data.x_test))
        return classify(self.config.classifier, z_train, data.y_train, z_test, seed=0)

    def _accuracy(self, predicted: Tensor) -> float:
        assert not isinstance(self.dataset, ForecastDataset)
        return float((predicted == self.dataset.y_test).double().mean())

    def _examples(self) -> Tensor:
        """A few series to look at, shape ``(n, T, F)``."""
        if not isinstance(self.dataset, ForecastDataset):
            return self.dataset.x_test[:3]
        inputs = forecast_inputs(self.dataset, self.config)
        start = self.dataset.split.val_end
        return inputs[:3, start : start + self.config.window]

    @classmethod
    def read_cases(cls, path: Path, metrics: Sequence[str]) -> Cases:
        """Whether each test series was classified right."""
        found = TestPredictions.read(path)
        return Cases("series", found.cases, {metric: found.right.astype(np.float64) for metric in metrics})

    @property
    def num_rows(self) -> int:
        """Training and test series; or the steps that end a whole window."""
        data = self.dataset
        if isinstance(data, ForecastDataset):
            return len(data.values) - self.config.window + 1
        return len(data.x_train) + len(data.x_test)

    @torch.no_grad()
    def embed(self, method: Any, rows: NDArray[np.int64]) -> Tensor:
        """Representations of series, training ones first; or of the windows that begin at steps."""
        method.eval()
        encoder, index = method.trained, torch.from_numpy(rows)
        data = self.dataset
        if not isinstance(data, ForecastDataset):
            return series_representations(encoder, _rows_of(index, data.x_train, data.x_test))
        inputs = forecast_inputs(data, self.config)
        places = index[:, None] + torch.arange(self.config.window)
        parameter = next(encoder.parameters())
        found = [
            torch.cat([encoder.represent(part.to(parameter))[:, -1] for part in series[places].split(32)])
            for series in inputs
        ]
        return torch.cat(found, 1)

    def export(self, method: Any, folder: Path) -> None:
        """Write the encoder as :func:`nearfar.timeseries.load_encoder` reads it."""
        save_encoder(method.trained, folder)


def _rows_of(index: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Rows of two tensors of ``(N, T, F)`` one behind the other, the shorter ones ending in NaN."""
    steps = max(first.shape[1], second.shape[1])
    padded = [
        torch.nn.functional.pad(x, (0, 0, 0, steps - x.shape[1]), value=torch.nan) for x in (first, second)
    ]
    return torch.cat(padded)[index]


def _summary(scores: Sequence[HorizonScore]) -> dict[str, float]:
    """Of all horizons."""
    found = {
        "error": fmean(math.sqrt(score.mse) + score.mae for score in scores),
        "mse_avg": fmean(score.mse for score in scores),
        "mae_avg": fmean(score.mae for score in scores),
    }
    for score in scores:
        found |= {f"mse_h{score.horizon}": score.mse, f"mae_h{score.horizon}": score.mae}
    return found


def _of_accuracy(accuracy: float) -> dict[str, float]:
    return {"error": 1 - accuracy, "accuracy": accuracy}
