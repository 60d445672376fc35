"""Runs from start to end: what they measure, leave in their folder, and how that is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.pipelines.train import Outcome, prepare, train
from nearfar.timeseries import load_encoder
from nearfar.timeseries.autotcl.config import AutoTCLConfig
from nearfar.timeseries.autotcl.published import PUBLISHED
from nearfar.timeseries.registry import METHODS
from nearfar.timeseries.representations import forecast_representations, series_representations
from nearfar.timeseries.task import SeriesTask

pytest.importorskip("sklearn")

SMALL = (
    "encoder.dim=6",
    "encoder.hidden=6",
    "encoder.depth=2",
    "epochs=2",
    "crop=64",
    "batch_size=8",
    "selection.every=1",
    "window=48",
    "horizons=[6,12]",
    "tracking.enabled=false",
    "device=cpu",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three waves by the hour, 500 of them."""
    rng = np.random.default_rng(0)
    hours = np.arange(500)
    times = np.datetime64("2020-01-01T00") + hours.astype("timedelta64[h]")
    waves = np.sin(2 * np.pi * hours[:, None] / np.array([24, 12, 30])) + 0.1 * rng.normal(size=(500, 3))
    lines = ["date,a,b,c"]
    lines += [
        ",".join([str(t).replace("T", " ") + ":00", *(f"{v:.6f}" for v in row)])
        for t, row in zip(times, waves, strict=True)
    ]
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def bumps(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    example: Any = METHODS["timeseries.autotcl"].load("example")
    words = example(tmp_path_factory.mktemp("data"))
    place = tmp_path_factory.mktemp("runs") / "bumps"
    more = ["epochs=4", "selection.every=2", "tracking.enabled=false", "device=cpu", f"output_dir={place}"]
    return train("timeseries.autotcl", [*words, *more], quiet=True)


@pytest.mark.parametrize(
    "more",
    [
        ("features=S",),
        ("features=M",),
        ("features=M", "variant=paper", "encoder.dim=6", "encoder.depth=2"),
        ("features=S", "variant=released"),
    ],
    ids=["S", "M independent", "M together", "released"],
)
def test_a_forecasting_run_is_told_beside_what_needs_no_encoder(
    table: Path, more: tuple[str, ...], tmp_path: Path
) -> None:
    words = [f"data={table}", *SMALL, *more, f"output_dir={tmp_path / 'run'}"]
    metrics = train("timeseries.autotcl", words, quiet=True).metrics
    for split in ("val", "test"):
        for name in ("error", "mse_avg", "mae_avg", "mse_h6", "mae_h12"):
            assert np.isfinite(metrics[f"{split}/{name}"])
    assert metrics["test/mse_avg"] == pytest.approx((metrics["test/mse_h6"] + metrics["test/mse_h12"]) / 2)
    for name in ("last_value", "seasonal_naive", "lags", "untrained"):
        assert np.isfinite(metrics[f"test/baseline_{name}_mse_avg"])
    assert metrics["test/gain_over_untrained"] == pytest.approx(
        metrics["test/baseline_untrained_mse_avg"] - metrics["test/mse_avg"]
    )
    per_horizon = [metrics[f"test/gain_over_lags_h{h}"] for h in (6, 12)]
    assert np.mean(per_horizon) == pytest.approx(metrics["test/gain_over_lags"])
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())["scores"]
    assert [one["horizon"] for one in scores["ours"]] == [6, 12]
    assert (tmp_path / "run" / "masks.png").exists() or not pytest.importorskip("matplotlib")
    assert not (tmp_path / "run" / "predictions.npz").exists()


def test_a_classification_run_keeps_its_predictions(bumps: Outcome) -> None:
    folder, metrics = Path(bumps.output_dir), bumps.metrics
    assert metrics["test/error"] == pytest.approx(1 - metrics["test/accuracy"])
    assert 0 <= metrics["test/baseline_nearest_neighbor_accuracy"] <= 1
    gain = metrics["test/accuracy"] - metrics["test/baseline_untrained_accuracy"]
    assert metrics["test/gain_over_untrained"] == pytest.approx(gain)
    cases = SeriesTask.read_cases(folder / "predictions.npz", ["accuracy"])
    assert cases.values["accuracy"].mean() == pytest.approx(metrics["test/accuracy"])
    assert cases.unit == "series"


def test_the_saved_encoder_represents_the_same(bumps: Outcome, tmp_path: Path) -> None:
    folder = Path(bumps.output_dir)
    encoder = load_encoder(folder / "model")
    assert not encoder.training
    _, _, task = prepare("timeseries.autotcl", config_file=folder / "config.yaml")
    assert isinstance(task, SeriesTask)
    method: Any = task.build(task.config)
    method.trained.load_state_dict(encoder.state_dict())
    rows = np.arange(5)
    direct = series_representations(encoder, task.dataset.x_train[:5])  # type: ignore[union-attr]
    torch.testing.assert_close(task.embed(method, rows), direct)
    (tmp_path / "model").mkdir()
    for file in (folder / "model").iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError):
        load_encoder(tmp_path / "model")


@pytest.mark.parametrize("variant", ["paper", "paper+"])
def test_rows_of_a_forecast_are_its_windows(table: Path, variant: str) -> None:
    words = [f"data={table}", *SMALL, f"variant={variant}", "features=M"]
    _, config, task = prepare("timeseries.autotcl", words)
    assert isinstance(task, SeriesTask)
    method: Any = task.build(config)
    phi = forecast_representations(method.eval().trained, task.dataset, config)  # type: ignore[arg-type]
    last = task.embed(method, np.array([task.num_rows - 1]))
    assert last.shape[1] == phi[-1].numel()
    if variant == "paper":  # a causal encoder has heard more than the window
        assert torch.allclose(last.flatten(), phi[-1].flatten(), atol=1e-5)


def test_published_settings_are_those_of_the_released_program() -> None:
    for (data, features), row in PUBLISHED.items():
        words = [f"data={data}", f"features={features}", "variant=released"]
        config = resolve_settings(find("timeseries.autotcl"), words, environment={})
        assert isinstance(config, AutoTCLConfig)
        assert (config.optim.lr, config.augmenter.lr, config.epochs) == (row.lr, row.lr_augmenter, row.epochs)
        assert (config.augmenter.stretch, config.augmenter.hard) == (row.stretch, row.hard)
        assert (config.encoder.dim, config.encoder.depth, config.encoder.causal) == (320, 10, False)
        assert config.contrast.temperature == 1
    mine = resolve_settings(find("timeseries.autotcl"), ["data=etth1", "variant=released", "epochs=3"])
    assert mine.epochs == 3


def prepared(table: Path, words: list[str]) -> None:
    _, config, task = prepare("timeseries.autotcl", [f"data={table}", *SMALL, *words])
    task.build(config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encoder.normalize=series"], "normalize: series reads the future"),
        (["variant=papre"], "variant"),
        (["contrast.temperature=0"], "contrast.temperature"),
        (["selection.metric=val/mse_h7"], "val/mse_h7"),
        (["augmenter.kind=blur"], "augmenter.kind"),
        (["horizons=[0]"], "horizons"),
    ],
)
def test_settings_that_cannot_be_are_named(table: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepared(table, words)


def test_horizons_that_do_not_fit_are_named(table: Path) -> None:
    with pytest.raises(DataError, match="horizon"):
        prepare("timeseries.autotcl", [f"data={table}", *SMALL, "horizons=[5000]"])
