"""Servers and browsers that tests start themselves, on ports and in folders of their own."""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

FAKE_STUDY = Path(__file__).parents[1] / "tuning" / "fake_study.py"


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    """The study of milliseconds from the tuning tests."""
    spec = importlib.util.spec_from_file_location("fake_study", FAKE_STUDY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_study"] = module
    spec.loader.exec_module(module)
    return module


def _programs() -> Path | None:
    """Folder with ``initdb`` and ``postgres``."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a database of a fresh PostgreSQL server."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed (make test-services installs it)")
    as_user: list[str] = []
    if os.geteuid() == 0:  # initdb refuses root
        if (
            shutil.which("runuser") is None
            or subprocess.run(["id", "postgres"], capture_output=True).returncode
        ):
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres to run it as")
        as_user = ["runuser", "-u", "postgres", "--"]
    user = "postgres" if as_user else getpass.getuser()
    # Not below pytest's folders: those only root may enter.
    folder = Path(tempfile.mkdtemp(prefix="nearfar-pg-"))
    if as_user:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()
    try:
        made = subprocess.run(
            [*as_user, programs / "initdb", "-D", data, "-U", user, "-A", "trust", "-N"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        if made.returncode:
            pytest.skip(f"initdb failed: {made.stderr.strip()[-200:]}")
        server = subprocess.Popen(
            [*as_user, programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "fsync=off"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        try:
            _wait_for_port(port, server)
            yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(0.5)
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port} after {seconds:.0f} s")


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[str]]:
    """``serve(*arguments)``: a Python program that takes ``--host`` and ``--port``; its address while it runs."""
    return _serve


@contextmanager
def _serve(*arguments: str) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, *arguments, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for_port(port, server, 120)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
