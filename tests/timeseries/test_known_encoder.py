"""K6: the untrained encoder of the published program, by a seed, on ETTh1; figures measured there with its own code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nearfar.timeseries.datasets import ForecastDataset, load_dataset
from nearfar.timeseries.encoder import SeriesEncoder, represent_series
from nearfar.timeseries.forecasting.evaluation import forecast_scores

EXPECTED = {
    24: (0.03746, 0.14783),
    48: (0.05482, 0.17753),
    168: (0.09979, 0.23736),
    336: (0.10793, 0.25116),
    720: (0.17542, 0.33964),
}
# One pass of a causal encoder of depth 6 with the same seed, section 8.3: the mean over the horizons.
CAUSAL = (0.0977, 0.2356)


def scores(shared_data: Path, encoder: SeriesEncoder) -> dict[int, tuple[float, float]]:
    dataset = load_dataset("etth1", shared_data)
    assert isinstance(dataset, ForecastDataset)
    phi = represent_series(encoder, dataset.inputs, stop=dataset.split.test_end)
    phi = torch.nn.functional.pad(phi, (0, 0, 0, len(dataset.inputs) - len(phi)))
    found = forecast_scores(dataset, phi, probe="ts2vec", parts=("test",))["test"]
    return {score.horizon: (score.mse, score.mae) for score in found}


@pytest.mark.slow
def test_untrained_encoder_on_etth1(shared_data: Path) -> None:
    torch.manual_seed(44)
    found = scores(shared_data, SeriesEncoder(8, head="trend"))
    assert set(found) == set(EXPECTED)
    for horizon, expected in EXPECTED.items():
        assert found[horizon] == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
def test_untrained_causal_encoder_on_etth1(shared_data: Path) -> None:
    torch.manual_seed(44)
    found = scores(shared_data, SeriesEncoder(8, head="trend", depth=6, causal=True))
    mean = torch.tensor(list(found.values())).mean(0)
    assert mean.tolist() == pytest.approx(CAUSAL, abs=1e-3)
