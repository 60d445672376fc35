"""A run stopped anywhere goes on as if nothing had happened, whatever state its method carries."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.config import RunConfig
from nearfar.errors import CheckpointError, PreemptedError, StorageError
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyMethod, ToySource, ToyViews
from nearfar.training import CheckpointStore, FitResult, fit

FIXTURES = Path(__file__).parent / "fixtures"
Points = dict[tuple[str, int], float]


def settings(**changes: object) -> RunConfig:
    # Nothing by the clock: which steps are saved must not depend on the machine.
    base = {"epochs": 4, "device": "cpu", "checkpoint": {"every_steps": 3, "every_fraction": 1.0}}
    schedule = {"optim": {"lr": 0.01, "schedule": "cosine", "warmup": 0.2, "clip_norm": 1.0}}
    return ToyConfig.model_validate(base | schedule | changes)


def train(
    folder: Path, runtime: Runtime, config: RunConfig, *, stop_at: int | None = None, **options: Any
) -> tuple[ToyContrast, FitResult, Points]:
    method, points = ToyContrast(seed=0 if not options.get("resume") else 7), Points()
    steps, initial = 0, ToyContrast().head.weight.detach()

    def stop() -> str | None:
        nonlocal steps
        steps += 1
        return "a test" if stop_at is not None and steps >= stop_at else None

    def log(metrics: Any, step: int) -> None:
        points.update({(name, step): value for name, value in metrics.items()})

    def validate() -> dict[str, float]:
        return {"val/loss": -float((method.head.weight - initial).norm())}  # the longer, the better

    source = ToyViews(config.seed, runtime)
    options = {"validate": validate, "log": log, "quiet": True, "store": CheckpointStore(folder), **options}
    result = fit(method, source, config=config, runtime=runtime, stop=stop, **options)
    return method, result, points


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


@pytest.mark.row("R02", stops=19)
@pytest.mark.row("R03")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_stopped_after_any_step_with_all_kinds_of_state(cpu: Runtime, tmp_path: Path, precision: str) -> None:
    """Momentum encoder, queue, two optimisers, schedule, clipping, mixed precision."""
    config = settings(precision=precision)
    straight, expected, points = train(tmp_path / "straight", cpu, config)
    assert len(straight.queue) == 32, "the queue should have gone round"
    for stop_at in range(1, 20):
        folder = tmp_path / str(stop_at)
        with pytest.raises(PreemptedError, match=rf"after step {stop_at} of 20 \(a test\)"):
            train(folder, cpu, config, stop_at=stop_at)
        resumed, result, later = train(folder, cpu, config, resume=True)
        assert equal(resumed, straight)
        assert (result.history, result.best_step) == (expected.history, expected.best_step)
        assert later == {key: value for key, value in points.items() if key in later}
        assert {step for name, step in later if name == "train/loss"} == set(range(stop_at, 20))


@pytest.mark.row("R04")
@pytest.mark.parametrize("workers", [1, 3])
def test_loader_threads_change_nothing(cpu: Runtime, tmp_path: Path, workers: int) -> None:
    """R04."""
    straight, _, points = train(tmp_path / "a", cpu, settings())
    with pytest.raises(PreemptedError):
        train(tmp_path / "b", cpu, settings(loader_workers=workers), stop_at=8)
    resumed, _, later = train(tmp_path / "b", cpu, settings(loader_workers=workers), resume=True)
    assert equal(resumed, straight)
    assert later.items() <= points.items()


def test_precision_is_not_ignored(cpu: Runtime, tmp_path: Path) -> None:
    exact, _, _ = train(tmp_path / "a", cpu, settings())
    half, _, _ = train(tmp_path / "b", cpu, settings(precision="bf16"))
    assert not equal(exact, half)
    assert all(value.dtype != torch.bfloat16 for value in half.state_dict().values())


@pytest.mark.row("R07", damages=1)
def test_damage_of_every_kind_falls_back_to_the_checkpoint_before(
    cpu: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight, _, _ = train(tmp_path / "straight", cpu, settings())
    with pytest.raises(PreemptedError):
        train(tmp_path / "run", cpu, settings(), stop_at=11)
    newest = tmp_path / "run" / "step-00000011.ckpt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 512] = bytes(512)
    newest.write_bytes(content)
    (tmp_path / "run" / "step-00000012.ckpt.99.tmp").write_bytes(b"half")
    resumed, _, _ = train(tmp_path / "run", cpu, settings(), resume=True)
    assert equal(resumed, straight)
    assert "set aside as *.corrupt" in capsys.readouterr().err
    assert newest.with_suffix(".ckpt.corrupt").exists()
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_other_threads_or_torch_are_said_not_refused(
    cpu: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PreemptedError):
        train(tmp_path, cpu, settings(), stop_at=5)
    store = CheckpointStore(tmp_path)
    found = store.load(5)
    torch.save({**vars(found), "environment": {**found.environment, "num_threads": 99}}, store.path(5))
    train(tmp_path, cpu, settings(), resume=True)
    assert "num_threads 99 then" in capsys.readouterr().err


@pytest.mark.row("R09")
def test_the_keys_that_differ_are_named(cpu: Runtime, tmp_path: Path) -> None:
    """R09."""
    mine = {"seed": 0, "optim.lr": "0.01", "data_digest": "a", "world_size": 1}
    with pytest.raises(PreemptedError):
        train(tmp_path, cpu, settings(), stop_at=5, fingerprint=mine)
    other = mine | {"optim.lr": "0.02", "world_size": 2}
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path, cpu, settings(), resume=True, fingerprint=other)
    text = str(caught.value)
    assert "optim.lr: 0.01 in the checkpoint, 0.02 now; world_size: 1 in the checkpoint, 2 now" in text
    assert "seed" not in text.replace("same settings", "")


@pytest.mark.row("R11")
def test_a_full_disk_is_forgiven_twice(
    cpu: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """R11: the run goes on with a warning, the third failure in a row ends it, what was saved stays."""
    real, failing = torch.save, set[int]()

    def save(content: Any, file: Any, **options: Any) -> None:
        if content["step"] in failing:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        real(content, file, **options)

    monkeypatch.setattr(torch, "save", save)
    straight, _, _ = train(tmp_path / "straight", cpu, settings())
    failing |= {6, 9}
    lucky, result, _ = train(tmp_path / "lucky", cpu, settings(selection={"mode": "max"}))
    assert "2 of 3 failures in a row" in capsys.readouterr().err
    assert result.steps == 20
    failing |= {12}
    with pytest.raises(StorageError, match="No space left"):
        train(tmp_path / "unlucky", cpu, settings(), validate=None)
    assert CheckpointStore(tmp_path / "unlucky").steps() == [0, 3]
    assert not list((tmp_path / "unlucky").glob("*.tmp"))
    failing.clear()
    assert straight.head.weight.isfinite().all()
    assert lucky.head.weight.isfinite().all()


def test_the_best_survives_a_disk_that_was_full_when_it_came(
    cpu: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, real = ToyMethod(), torch.save
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0])
    best: dict[str, torch.Tensor] = {}

    def validate() -> dict[str, float]:
        value = next(values)
        if value == 1.0:
            best.update({name: tensor.clone() for name, tensor in method.state_dict().items()})
        return {"val/loss": value}

    def save(content: Any, file: Any) -> None:
        if content["step"] == 5:
            raise OSError(28, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    config = settings(checkpoint={})
    result = fit(
        method,
        ToySource(),
        config=config,
        runtime=cpu,
        validate=validate,
        store=CheckpointStore(tmp_path),
        quiet=True,
    )
    assert result.best_step == 5
    assert all(torch.equal(method.state_dict()[name], tensor) for name, tensor in best.items())


@pytest.mark.row("R10")
def test_checkpoints_of_the_first_schema_are_read(tmp_path: Path) -> None:
    """R10: written by the release before; the numbers are what its method predicted."""
    shutil.copy(FIXTURES / "schema-1.ckpt", tmp_path / "step-00000010.ckpt")
    found = CheckpointStore(tmp_path).load(10)
    assert (found.step, found.seconds, found.memory_level) == (10, 0.0, 0)
    method = ToyMethod(seed=3).eval()
    method.load_state_dict(found.method)
    expected = json.loads((FIXTURES / "schema-1.json").read_text())
    assert method(ToySource().x[:4]).tolist() == pytest.approx(expected, abs=1e-6)


def test_what_an_observer_raises_ends_the_run(cpu: Runtime, tmp_path: Path) -> None:
    seen: list[tuple[int, dict[str, float]]] = []

    def observe(metrics: Any, epoch: int) -> None:
        seen.append((epoch, dict(metrics)))
        if epoch == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        train(tmp_path, cpu, settings(), on_validation=observe)
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    again: list[int] = []
    train(tmp_path, cpu, settings(), resume=True, on_validation=lambda _, epoch: again.append(epoch))
    assert again == [0, 1, 2, 3, 4], "a resumed run tells of the validations before it as well"
