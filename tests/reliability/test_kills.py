"""Killed, stopped or cut off anywhere, a run ends with the bits of one that was left in peace."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfar.pipelines.registry import methods
from nearfar.testing.ranks import run_ranks, start_ranks
from nearfar.tracking import open_store
from nearfar.tracking.journal import read
from nearfar.training import CheckpointStore

TOY = str(Path(__file__).with_name("toy_run.py"))
TRAINED = [
    name for name in methods() if name not in ("recsys.popularity", "graph.untrained", "timeseries.untrained")
]


def toy(folder: Path, **environment: str) -> subprocess.Popen[str]:
    (folder / "ready").unlink(missing_ok=True)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, TOY, str(folder)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def training(process: subprocess.Popen[str], folder: Path) -> bool:
    """Wait until it listens to signals and has a checkpoint; whether it is still going on then."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "ready").exists() and list(folder.glob("checkpoints/*.ckpt")):
            return True
        time.sleep(0.02)
    return False


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a run left in peace prints."""
    return finished(toy(tmp_path_factory.mktemp("straight") / "run"))


@pytest.mark.row("R01")
@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_at_random_moments(
    straight: str, tmp_path: Path, kills: int, record_property: Callable[[str, object], None]
) -> None:
    """SIGKILL while training, restart, until done."""
    rng, done = random.Random(kills), 0
    folder = tmp_path / "run"
    while done < kills:
        process = toy(folder, STEP_SECONDS="0.05")
        assert training(process, folder)
        time.sleep(rng.uniform(0.05, 0.5))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        done += 1
    assert done == kills
    record_property("kills", done)
    assert finished(toy(folder)) == straight


@pytest.mark.row("R06", kills=1)
@pytest.mark.parametrize("stage", [*(pytest.param(s, marks=pytest.mark.slow) for s in (1, 3, 4)), 2, 5, 6])
def test_killed_inside_the_save(straight: str, tmp_path: Path, stage: int) -> None:
    """Before the journal is flushed, before writing, flushing, testing, renaming, and after: what is whole is used."""
    folder = tmp_path / "run"
    killed = toy(folder, DIE_AT_STAGE=str(stage))
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    steps = sorted(path.name for path in folder.glob("checkpoints/step-*.ckpt"))
    assert steps[0] == "step-00000000.ckpt"
    assert len(steps) == (1 if stage < 6 else 2)
    assert finished(toy(folder)) == straight
    assert not list(folder.glob("checkpoints/*.tmp"))


@pytest.mark.row("S01")
@pytest.mark.parametrize("stops", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_asked_to_stop_at_random_moments(
    straight: str, tmp_path: Path, stops: int, record_property: Callable[[str, object], None]
) -> None:
    """SIGTERM: exit 75 within ten seconds, a checkpoint at the step it stopped at, the same bits in the end."""
    rng, folder, done = random.Random(stops), tmp_path / "run", 0
    while done < stops:
        process = toy(folder, STEP_SECONDS="0.25")
        assert training(process, folder)
        time.sleep(rng.uniform(0.0, 0.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - asked < 10
        assert process.returncode == 75, err
        step = int(err.split("after step ")[1].split()[0])
        assert (folder / "checkpoints" / f"step-{step:08d}.ckpt").exists()
        done += 1
    assert done == stops
    record_property("stops", done)
    assert finished(toy(folder)) == straight


@pytest.mark.row("S02")
def test_interrupted_twice(straight: str, tmp_path: Path) -> None:
    """The second Ctrl-C is not waited for, and spoils nothing."""
    folder = tmp_path / "run"
    process = toy(folder, STEP_SECONDS="1.5")
    assert training(process, folder)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode not in (0, 75)
    assert finished(toy(folder)) == straight


@pytest.mark.slow
@pytest.mark.row("R05")
def test_two_ranks_killed_and_continued(tmp_path: Path) -> None:
    """Bit by bit what two ranks left in peace give."""
    straight = run_ranks([TOY, str(tmp_path / "straight")], 2, tmp_path)[0]
    folder = tmp_path / "killed"
    for steps in (1, 2):
        processes = start_ranks([TOY, str(folder)], 2, tmp_path)
        deadline = time.monotonic() + 60
        while len(list(folder.glob("checkpoints/*.ckpt"))) < steps and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()
    assert run_ranks([TOY, str(folder)], 2, tmp_path)[0] == straight


# Of which an epoch is one step of a few milliseconds: over before it could be killed a dozen times.
EPOCHS = {"graph.contrast": 900}


def command_for(name: str, data: Path) -> list[str]:
    """A run of some seconds through the command line."""
    epochs = f"epochs={EPOCHS.get(name, 150)}"
    words = [*methods()[name].load("example")(data), epochs, "selection.patience=null", "device=cpu"]
    words += ["selection.every=10", "checkpoint.every_steps=7", "num_threads=1"]
    return [sys.executable, "-m", "nearfar.pipelines", "train", name, *words, "--json", "-q"]


def digest_of(folder: Path) -> str:
    """Weights, optimiser and every value but those of time and machine."""
    (output,) = folder.glob("outputs/*/*")
    store = CheckpointStore(output / "checkpoints")
    last = store.load(store.steps()[-1])
    digest = hashlib.sha256()
    for _, value in sorted(last.method.items()):
        digest.update(value.numpy().tobytes())
    for _, optimizer in sorted(last.optimizers.items()):
        for _, state in sorted(optimizer["state"].items()):
            digest.update(b"".join(state[key].numpy().tobytes() for key in sorted(state)))
    points = [
        point for point in read(output / "outbox.jsonl") if not point[0].startswith(("perf/", "system/"))
    ]
    assert len({point[:2] for point in points}) == len(points), "a value was recorded twice"
    digest.update(repr(sorted(points)).encode())
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.row("R01")
@pytest.mark.row("S01")
@pytest.mark.row("D01")
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_through_the_command_line(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """With a real store: left in peace twice, killed, stopped; one digest, one row a value, one end."""
    command = command_for(name, tmp_path / "data")
    digests, run_ids = set(), {}
    words = {"killed": "kills", "stopped": "stops"}
    for kind, times, number in (
        ("straight", 0, None),
        ("again", 0, None),
        ("killed", 12, signal.SIGKILL),
        ("stopped", 4, signal.SIGTERM),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": str(len(kind)), "OMP_NUM_THREADS": "1"}
        rng, done = random.Random(1), 0
        resume: list[str] = []
        while number is not None and done < times:
            nowhere = subprocess.DEVNULL
            process = subprocess.Popen(
                [*command, *resume], cwd=folder, env=environment, stderr=nowhere, stdout=nowhere
            )
            before, deadline = _newest(folder), time.monotonic() + 90
            while _newest(folder) == before and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.2))
            if process.poll() is not None:
                break
            process.send_signal(number)
            code = process.wait(timeout=30)
            assert code == (-signal.SIGKILL if number == signal.SIGKILL else 75)
            done, resume = done + 1, ["--resume"]
        if number is not None:
            assert done == times
            record_property(words[kind], done)
        last = subprocess.run(
            [*command, *resume], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert last.returncode == 0, last.stderr
        digests.add(digest_of(folder))
        run_ids[kind] = json.loads(last.stdout)["run_id"]
    assert len(digests) == 1
    for kind in ("killed", "stopped"):
        store = open_store(f"sqlite:///{tmp_path}/{kind}/mlruns/mlflow.db")
        run = store.client.get_run(run_ids[kind])
        assert run.info.status == "FINISHED"
        for key in ("train/loss", f"val/{methods()[name].load('task').metrics[0]}"):
            steps = [point.step for point in store.client.get_metric_history(run.info.run_id, key)]
            assert len(steps) == len(set(steps)) > 0


def _newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("outputs/*/*/checkpoints/*.ckpt")), default="")
