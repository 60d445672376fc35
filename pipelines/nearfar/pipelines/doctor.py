"""What is installed, what is missing and how to get it, which device, which store."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfar import version as own_version
from nearfar.errors import NearfarError, StorageError, first_line
from nearfar.optional import PACKAGES, installed, version

BASE = ("torch", "numpy", "pydantic", "pyyaml", "typer", "rich", "tqdm", "safetensors")

# How a package is tried when asked to: two of them only import through their shims.
_PROBES = {
    "recbole": "from nearfar.interop.recbole import compat\nwith compat():\n    import recbole.config",
    "auto_LiRPA": "from nearfar.interop.auto_lirpa import load\nload()",
    "tsai": "from nearfar.interop.tsai import load\nload('tsai.basics')",
}


@dataclass(frozen=True)
class PackageReport:
    """One package: version, state and what to do about it."""

    name: str
    version: str | None
    state: str  # ok, missing, broken
    purpose: str
    command: str | None = None


@dataclass(frozen=True)
class Report:
    """Everything ``nearfar doctor`` says."""

    nearfar: str
    python: str
    base: dict[str, str | None]
    packages: list[PackageReport]
    devices: list[str]
    store: str
    store_state: str
    stale_runs: int = 0
    closed_runs: int = 0
    closed_trials: int = 0
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def examine(*, imports: bool = False, fix: bool = False) -> Report:
    """Look at the installation, and at what killed processes have left behind.

    Args:
        imports: Import every optional package in a process of its own, to tell broken from present;
            takes about a minute.
        fix: Close runs and trials that nobody works on any more.
    """
    from nearfar.redaction import redacted
    from nearfar.runtime.device import available_devices
    from nearfar.tracking import default_uri

    packages = [_package(name, imports) for name in PACKAGES]
    problems = [f"{p.name} is broken; repair with: {p.command}" for p in packages if p.state == "broken"]
    state, stale = "not checked: mlflow is missing", 0
    if installed("mlflow"):
        try:
            state, stale = _examine_store(fix)
        except NearfarError as error:
            state = f"unusable: {error}"
            problems.append(state)
    return Report(
        nearfar=own_version.get(),
        python=sys.version.split()[0],
        base={name: version(name) for name in BASE},
        packages=packages,
        devices=available_devices(),
        store=redacted(default_uri()),
        store_state=state,
        stale_runs=0 if fix else stale,
        closed_runs=stale if fix else 0,
        closed_trials=_close_trials() if fix else 0,
        problems=problems,
    )


def _examine_store(fix: bool) -> tuple[str, int]:
    """State of the default store, and the number of runs that were stale."""
    from nearfar.tracking import close_stale_runs, open_store, stale_runs

    store = open_store()
    try:
        experiments = len(store.client.search_experiments())
        stale = close_stale_runs(store) if fix else len(stale_runs(store))
    except Exception as error:  # a client raises what it likes
        raise StorageError(f"{store.uri} does not answer: {first_line(error)}") from error
    return f"ok, {experiments} experiments", stale


def _close_trials() -> int:
    from nearfar.tuning import close_stale

    return close_stale() if installed("optuna") else 0


def _package(name: str, imports: bool) -> PackageReport:
    package = PACKAGES[name]
    state = "ok" if installed(name) else "missing"
    if state == "ok" and imports:
        code = _PROBES.get(name, f"import {name}")
        probe = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        state = "ok" if probe.returncode == 0 else "broken"
    command = None if state == "ok" else package.command
    return PackageReport(name, version(package.distribution), state, package.purpose, command)
