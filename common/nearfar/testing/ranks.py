"""Start a Python program as several processes of one group, as torchrun would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_ranks(program: Sequence[str], world_size: int, folder: Path) -> list[subprocess.Popen[str]]:
    """Processes with RANK, WORLD_SIZE and a meeting point in their environment.

    Args:
        program: Arguments of the interpreter.
        world_size: How many.
        folder: Working folder of all.
    """
    port = free_port()
    shared = os.environ | {
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *program],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(world_size)
    ]


def run_ranks(program: Sequence[str], world_size: int, folder: Path) -> list[str]:
    """Their standard outputs, once all have ended well."""
    processes = start_ranks(program, world_size, folder)
    answers = [process.communicate(timeout=300) for process in processes]
    for process, (out, err) in zip(processes, answers, strict=True):
        assert process.returncode == 0, f"{out}\n{err}"
    return [out for out, _ in answers]
