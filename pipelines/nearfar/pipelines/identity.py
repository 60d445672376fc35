"""What a run is: the fingerprint that must not change on resume, and the tags people look for."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import torch

from nearfar.config import RunConfig, config_hash, decisive, flatten
from nearfar.pipelines.environment import git_state, process_started
from nearfar.pipelines.settings import resolve_settings
from nearfar.registry import MethodEntry
from nearfar.runtime import Runtime
from nearfar.training import Task


def fingerprint(entry: MethodEntry, config: RunConfig, task: Task, runtime: Runtime) -> dict[str, str | int]:
    """What must be equal for a run to be continued, by the names of the settings."""
    settings = {key: json.dumps(value) for key, value in decisive(config).items() if key != "data"}
    return {
        "method": entry.name,
        "seed": config.seed,
        "data_digest": task.card.digest,
        "world_size": runtime.world_size,
        **settings,
    }


def variant(entry: MethodEntry, config: RunConfig) -> str:
    """The settings in which a run differs from what the method does on this data by default.

    Returns:
        ``key=value, ...``, or ``default``.
    """
    usual = decisive(resolve_settings(entry, [f"data={json.dumps(config.data)}"], environment={}))
    changed = {key: value for key, value in decisive(config).items() if usual.get(key) != value}
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in changed.items()) or "default"


def run_params(config: RunConfig, task: Task) -> dict[str, Any]:
    """What a run's page in the store shows as its parameters: settings, data and how it is measured."""
    return {
        **flatten(config),
        "data.digest": task.card.digest,
        **{f"data.{name}": count for name, count in task.card.counts.items()},
        **{f"eval.{name}": value for name, value in task.protocol.items()},
    }


def run_tags(
    entry: MethodEntry, config: RunConfig, task: Task, runtime: Runtime, *, kind: str, folder: Path
) -> dict[str, str]:
    """Everything by which runs are found, grouped and told apart in the store."""
    return {
        "nearfar.kind": kind,
        "nearfar.method": entry.name,
        "nearfar.domain": entry.domain,
        "nearfar.dataset": task.card.name,
        "nearfar.dataset_digest": task.card.digest,
        "nearfar.variant": variant(entry, config),
        "nearfar.seed": str(config.seed),
        "nearfar.config_hash": config_hash(config),
        "nearfar.device": str(runtime.device),
        "nearfar.world_size": str(runtime.world_size),
        "nearfar.torch": str(torch.__version__),
        "nearfar.threads": str(torch.get_num_threads()),
        "nearfar.output_dir": str(folder),
        **process_tags(),
        **{f"nearfar.data.{name}": str(count) for name, count in task.card.counts.items()},
        **git_state(),
    }


def process_tags() -> dict[str, str]:
    """Which process this is; tells a run that is going on from one whose process died."""
    return {
        "nearfar.host": socket.gethostname(),
        "nearfar.pid": str(os.getpid()),
        "nearfar.pid_started": process_started(),
    }
