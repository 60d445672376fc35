"""Figures of the probes on ETTh1 that were measured independently (specification of AutoTCL, K1 to K4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfar.timeseries.datasets import ForecastDataset, load_dataset
from nearfar.timeseries.forecasting.evaluation import HorizonScore, Probe, forecast_scores


def etth1(folder: Path, features: str = "S") -> ForecastDataset:
    data = load_dataset("ETTh1", folder, features=features)  # type: ignore[arg-type]
    assert isinstance(data, ForecastDataset)
    return data


def average(scores: list[HorizonScore]) -> tuple[float, float]:
    return sum(s.mse for s in scores) / len(scores), sum(s.mae for s in scores) / len(scores)


@pytest.mark.parametrize(
    ("probe", "mse", "mae", "each"),
    [
        # Without representations lags are chosen at every horizon: K1 by the default probe.
        ("residual", 0.0582, 0.1840, (0.0262, 0.0390, 0.0660, 0.0801, 0.0795)),
        ("raw", 0.0808, 0.2105, (0.0270, 0.0410, 0.0728, 0.0956, 0.1675)),
        ("last-ridge", 0.1644, 0.3164, (0.0443, 0.0810, 0.1749, 0.2142, 0.3079)),
    ],
)
def test_one_channel(
    probe: Probe, mse: float, mae: float, each: tuple[float, ...], shared_data: Path
) -> None:
    scores = forecast_scores(etth1(shared_data), probe=probe)["test"]
    assert average(scores) == pytest.approx((mse, mae), abs=1e-4)
    assert [score.mse for score in scores] == pytest.approx(each, abs=1e-4)
    assert [score.horizon for score in scores] == [24, 48, 168, 336, 720]


@pytest.mark.slow
def test_all_channels(shared_data: Path) -> None:
    data = etth1(shared_data, "M")
    scores = forecast_scores(data, probe="anchored")["test"]
    assert average(scores) == pytest.approx((0.3932, 0.4044), abs=5e-4)
    # On LUFL the season is ahead of lags in the first third of the validation rows, behind in the second, and far
    # behind in the test rows.
    full = forecast_scores(data)["test"]
    assert average(full)[0] <= 0.40
    assert not any("seasonal" in score.chosen for score in full)
