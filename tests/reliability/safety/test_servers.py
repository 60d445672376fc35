"""Whatever is served is served on this machine only, unless somebody says otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [
    ROOT / "Makefile",
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".ci").iterdir()),
]
SOURCES = [
    path
    for folder in ("common", "domains", "pipelines", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SERVERS = re.compile(r"mlflow (?:server|ui)\b|\bhttp\.server\b|uvicorn |gunicorn ")
EVERYWHERE = re.compile(r"0\.0\.0\.0|--host[= ]+\*|\[::\]")


@pytest.mark.row("L05")
def test_the_page_of_runs_is_on_loopback() -> None:
    """``make ui``."""
    recipe = re.search(
        r"^ui:.*\n((?:\t.*\n?)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert recipe
    assert "--host 127.0.0.1" in recipe[1]


@pytest.mark.row("L05")
def test_nothing_that_is_documented_listens_to_everybody() -> None:
    """Servers of runs name loopback; models are served where MLflow serves them, which is loopback."""
    for path in TEXTS:
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                assert not EVERYWHERE.search(line), (path, line)
                if SERVERS.search(line) and line.startswith(("\t", "    ", "mlflow")):
                    assert any(host in line for host in LOOPBACK), (path, line)


@pytest.mark.row("L05")
def test_nothing_in_the_sources_listens_to_everybody() -> None:
    """Nor do the tests."""
    for path in SOURCES:
        if path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert not EVERYWHERE.search(text), path
            for address in re.findall(r"init_method=f?\"tcp://([^:/\"]+)", text):
                assert address in LOOPBACK, path


@pytest.mark.row("L05")
def test_mlflow_serves_models_on_loopback() -> None:
    """The default of ``mlflow models serve``, which the command line recommends without a host."""
    pytest.importorskip("mlflow")
    from mlflow.models.cli import serve

    (host,) = [parameter for parameter in serve.params if parameter.name == "host"]
    assert host.default in LOOPBACK
