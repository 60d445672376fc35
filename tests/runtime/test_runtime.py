"""Streams of randomness, device names, and two processes that act as one."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nearfar.config import RunConfig
from nearfar.errors import ConfigError
from nearfar.recsys import Interactions, SASRec, SASRecConfig, leave_one_out
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime, generator, isolated_rng, numpy_generator, resolve_device, stream_seed
from nearfar.training import fit


def test_streams_are_functions_of_their_name() -> None:
    def draw(*key: object) -> list[float]:
        return torch.rand(3, generator=generator(*key)).tolist()  # type: ignore[arg-type]

    assert draw(0, "augment", 5) == draw(0, "augment", 5)
    others = [draw(1, "augment", 5), draw(0, "order", 5), draw(0, "augment", 6), draw(0, "augment", 5, 1)]
    assert all(other != draw(0, "augment", 5) for other in others)
    assert np.array_equal(numpy_generator(3, "x").random(4), numpy_generator(3, "x").random(4))


def test_seed_values_are_stable_across_releases() -> None:
    """Checkpoints of today are continued by the code of tomorrow."""
    assert stream_seed(0, "order", 0) == 1_829_853_113_658_518_448
    assert 0 <= stream_seed(2**63 - 1, "x", 10**12) < 2**63


def test_isolated_rng_gives_the_generator_back() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with isolated_rng(torch.device("cpu")):
        torch.manual_seed(99)
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.row("G06")
def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="device: 'gpu' is not available here; choose auto, .*cpu"):
        resolve_device("gpu")
    with pytest.raises(ConfigError, match="cuda:97"):
        resolve_device("cuda:97")


@pytest.mark.row("G06")
def test_hidden_devices_leave_the_cpu() -> None:
    program = (
        "from nearfar.runtime.device import available_devices, resolve_device\n"
        "assert available_devices() == ['cpu'], available_devices()\n"
        "assert resolve_device('auto').type == 'cpu'\n"
        "from nearfar.pipelines.cli import run\n"
        "raise SystemExit(run(['train', 'recsys.popularity', 'device=cuda:1', '--quiet']))\n"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=hidden, check=False, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "device: 'cuda:1' is not available here; choose auto, cpu" in done.stderr
    assert not Path("outputs").exists()


def _train(runtime: Runtime, folder: Path) -> None:
    """SASRec for a few steps; writes weights and losses of the first process."""
    rng = np.random.default_rng(0)
    sequences = {
        f"u{u}": [f"i{i}" for i in rng.integers(20, size=int(rng.integers(4, 20)))] for u in range(30)
    }
    split = leave_one_out(Interactions.from_sequences(sequences))
    config = SASRecConfig(
        max_length=8,
        dim=16,
        inner_dim=32,
        targets_per_batch=64,
        dropout=0,
        attention_dropout=0,
        epochs=3,
        device="cpu",
        log_every=1,
    )
    method = SASRec(config, split).double()
    source = WindowBatches(split, max_length=8, stride=4, targets_per_batch=64, seed=0, runtime=runtime)
    fit(method, source, config=config, runtime=runtime, quiet=True)
    if runtime.is_main:
        torch.save(method.state_dict(), folder / f"world{runtime.world_size}.pt")


def _worker(rank: int, port: int, folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    runtime = Runtime.start("cpu")
    assert (runtime.rank, runtime.world_size, runtime.is_main) == (rank, 2, rank == 0)
    mean = torch.nn.Parameter(torch.zeros(3))
    mean.grad = torch.full((3,), float(rank))
    empty = torch.nn.Parameter(torch.zeros(2))
    runtime.average_gradients([mean, empty])
    assert mean.grad.tolist() == [0.5] * 3
    shared = torch.full((2,), float(rank + 1))
    runtime.broadcast([shared])
    assert shared.tolist() == [1.0, 1.0]
    _train(runtime, folder)
    runtime.close()


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    _train(Runtime.start("cpu"), tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(rank, port, tmp_path)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    one, two = (torch.load(tmp_path / f"world{n}.pt", weights_only=True) for n in (1, 2))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-9, atol=1e-9)


def test_config_of_a_run_has_the_agreed_keys() -> None:
    assert {"data", "data_dir", "seed", "epochs", "device", "output_dir"} <= set(RunConfig.model_fields)
