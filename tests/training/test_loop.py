"""The loop: deterministic, resumable at any step, fair to alternating optimisers, deaf to other randomness."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.config import RunConfig
from nearfar.errors import CheckpointError, ConfigError, DivergedError
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyMethod, ToySource
from nearfar.training import CheckpointStore, FitResult, fit

Log = list[tuple[int, dict[str, float]]]


def config(**changes: object) -> RunConfig:
    base = {"epochs": 4, "log_every": 3, "device": "cpu", "selection": {"metric": "val/mse"}}
    return ToyConfig.model_validate(base | changes)


def run(
    method: ToyMethod, settings: RunConfig, cpu: Runtime, log: Log | None = None, **options: Any
) -> FitResult:
    source = ToySource(settings.seed)

    def validate() -> dict[str, float]:
        return {"val/mse": float((method(source.x) - source.y).square().mean())}

    def record(metrics: Mapping[str, float], step: int) -> None:
        if log is not None:
            log.append((step, dict(metrics)))

    options = {"validate": validate, "quiet": True, **options}
    return fit(method, source, config=settings, runtime=cpu, log=record, **options)


def state(method: ToyMethod) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.row("D02")
@pytest.mark.row("D04")
@pytest.mark.parametrize("alternate", [False, True])
def test_same_seed_same_bits_other_seed_other_bits(cpu: Runtime, alternate: bool) -> None:
    logs: list[Log] = [[], [], []]
    states: list[dict[str, Tensor]] = []
    for log, seed in zip(logs, (0, 0, 1), strict=True):
        method = ToyMethod(alternate=alternate)
        torch.manual_seed(len(states))  # whatever the caller did to the global generator
        run(method, config(seed=seed), cpu, log, validate=None)
        states.append(state(method))
    assert logs[0] == logs[1]
    assert equal(states[0], states[1])
    assert logs[0] != logs[2]
    assert not equal(states[0], states[2])


def test_training_reduces_the_loss_and_keeps_the_best(cpu: Runtime, tmp_path: Path) -> None:
    method = ToyMethod()
    settings = config(epochs=30, optim={"lr": 0.02})
    result = run(method, settings, cpu, store=CheckpointStore(tmp_path))
    values: dict[float | None, float] = {entry["step"]: entry["val/mse"] for entry in result.history}
    assert list(values) == [5.0 * epoch for epoch in range(31)]
    assert values[result.best_step] == min(values.values()) < 0.3 * values[0]
    assert result.best_step != 150, "the toy problem should not end on its best step, or this proves nothing"
    source = ToySource()
    now = float((method.eval()(source.x) - source.y).square().mean().detach())
    assert now == values[result.best_step]


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize("stop", range(1, 20))
def test_resume_after_any_step_repeats_the_straight_run(
    cpu: Runtime, tmp_path: Path, stop: int, alternate: bool
) -> None:
    settings = config(optim={"lr": 0.01, "schedule": "cosine", "warmup": 0.2}, checkpoint={"every_steps": 1})
    straight_log: Log = []
    straight = ToyMethod(alternate=alternate)
    expected = run(straight, settings, cpu, straight_log, store=CheckpointStore(tmp_path / "straight"))

    class StopError(Exception):
        pass

    class Interrupted(ToySource):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            if step == stop:
                raise StopError
            return super().batch(step)

    store = CheckpointStore(tmp_path / "resumed")
    first = ToyMethod(alternate=alternate)
    source = Interrupted(settings.seed)

    def validate() -> dict[str, float]:
        return {"val/mse": float((first(source.x) - source.y).square().mean())}

    with pytest.raises(StopError):
        fit(first, source, config=settings, runtime=cpu, validate=validate, store=store, quiet=True)
    again = ToyMethod(seed=99, alternate=alternate)
    log: Log = []
    result = run(again, settings, cpu, log, store=store, resume=True)
    assert equal(state(again), state(straight))
    assert result.history == expected.history
    assert result.best_step == expected.best_step
    tail = [(s, m) for s, m in straight_log if s >= stop and "train/loss" in m]
    assert [(s, m) for s, m in log if "train/loss" in m] == tail


@pytest.mark.row("R12")
def test_resume_of_a_finished_run_changes_nothing(cpu: Runtime, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    method = ToyMethod()
    first = run(method, config(), cpu, store=store)
    again = ToyMethod(seed=5)
    second = run(again, config(), cpu, store=store, resume=True)
    assert equal(state(method), state(again))
    assert (first.best_step, first.history, first.steps) == (second.best_step, second.history, second.steps)


def test_resume_refuses_another_run(cpu: Runtime, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    run(ToyMethod(), config(), cpu, store=store, fingerprint={"seed": 0, "data_digest": "a"})
    with pytest.raises(CheckpointError, match="data_digest: a in the checkpoint, b now"):
        run(ToyMethod(), config(), cpu, store=store, resume=True, fingerprint={"seed": 0, "data_digest": "b"})


def test_alternating_updates_move_only_their_own_half(cpu: Runtime) -> None:
    method = ToyMethod(alternate=True)
    before = copy.deepcopy(method)
    log: Log = []
    run(method, config(epochs=1), cpu, log, validate=None)
    # Steps 0, 2, 4 move the encoder, all five the head.
    assert [sorted(m) for _, m in log if "train/head_loss" in m][1] == [
        "train/head_grad_norm",
        "train/head_loss",
        "train/head_mse",
    ]
    steps_with_encoder = [s for s, m in log if "train/loss" in m]
    assert steps_with_encoder == [0, 2, 4]
    assert all(p.requires_grad for p in method.parameters())
    assert not torch.equal(method.encoder.weight, before.encoder.weight)


def test_early_stopping_and_untrained_baseline(cpu: Runtime, tmp_path: Path) -> None:
    settings = config(
        epochs=50, optim={"lr": 1e-8}, selection={"metric": "val/mse", "mode": "max", "patience": 3}
    )
    result = run(ToyMethod(), settings, cpu, store=CheckpointStore(tmp_path))
    assert result.history[0]["step"] == 0
    assert result.stopped_early
    assert result.steps < 250
    best = max(result.history, key=lambda entry: entry["val/mse"])
    assert result.best_step == best["step"]
    assert len(result.history) - 1 - result.history.index(best) == 3


def test_wrong_selection_metric_is_found_before_training(cpu: Runtime) -> None:
    settings = config(selection={"metric": "val/mes"})
    with pytest.raises(ConfigError, match=r"'val/mes' is not measured; choose from val/mse"):
        run(ToyMethod(bad_step=0), settings, cpu)


@pytest.mark.row("S03")
def test_divergence_names_step_and_term_and_saves_nothing_bad(cpu: Runtime, tmp_path: Path) -> None:
    log: Log = []
    store = CheckpointStore(tmp_path)
    settings = config(checkpoint={"every_steps": 1}, log_every=20)
    with pytest.raises(DivergedError, match="step 7: .*train/loss = nan.*optim.lr"):
        run(ToyMethod(bad_step=7), settings, cpu, log, store=store)
    assert store.steps()[-1] == 7
    for step in store.steps():
        assert all(torch.isfinite(t).all() for t in store.load(step).method.values())
    assert all(value == value for _, metrics in log for value in metrics.values())


@pytest.mark.row("S04")
def test_exploding_learning_rate_is_caught(cpu: Runtime, tmp_path: Path) -> None:
    settings = config(epochs=40, optim={"name": "adamw", "lr": 10, "weight_decay": 10})
    method = ToyMethod()
    with torch.no_grad():
        method.head.weight.mul_(1e30)
    with pytest.raises(DivergedError):
        run(method, settings, cpu, store=CheckpointStore(tmp_path), validate=None)


@pytest.mark.row("D03")
def test_the_callers_generators_are_given_back(cpu: Runtime) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run(ToyMethod(), config(), cpu)
    assert torch.equal(torch.get_rng_state(), before)


def test_clipping_bounds_the_step_not_the_report(cpu: Runtime) -> None:
    norms = []
    for clip in (None, 1e-3):
        log: Log = []
        run(ToyMethod(), config(epochs=1, optim={"clip_norm": clip, "name": "adam"}), cpu, log, validate=None)
        norms.append(log[0][1]["train/grad_norm"])
    assert norms[0] == norms[1] > 1e-3
