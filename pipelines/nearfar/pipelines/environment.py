"""What a run ran on: versions, machine, code state."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from typing import Any

import torch

from nearfar import version
from nearfar.optional import installed, require


def describe_environment() -> dict[str, Any]:
    """Versions of everything installed, CPU, threads, GPU and driver."""
    return {
        "nearfar": version.get(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "torch": str(torch.__version__),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "packages": _packages(),
    }


@cache  # some hundred files to read, half a second; and what a process has imported does not change any more
def _packages() -> dict[str, str]:
    found = {dist.name: dist.version for dist in importlib.metadata.distributions() if dist.name}
    return dict(sorted(found.items(), key=lambda entry: entry[0].lower()))


def process_started() -> str:
    """When this process began, as the system tells it; empty where psutil is not installed."""
    if not installed("psutil"):
        return ""
    return str(require("psutil", "telling processes apart").Process().create_time())


def git_state() -> dict[str, str]:
    """Tags with the commit of the working folder and whether it has uncommitted changes; empty outside git."""
    if shutil.which("git") is None:
        return {}

    def ask(*words: str) -> str | None:
        answer = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {
        "nearfar.git_commit": commit,
        "nearfar.git_dirty": str(bool(ask("status", "--porcelain", "--untracked-files=no"))).lower(),
    }
