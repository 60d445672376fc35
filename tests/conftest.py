"""What many tests need: small real-looking data, and a place of their own to leave runs in."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfar.recsys import Interactions, LeaveOneOut, leave_one_out
from nearfar.runtime import Runtime, numpy_generator
from nearfar.tracking import open_store


def pytest_addoption(parser: pytest.Parser) -> None:
    """``make reliability`` asks for a report."""
    parser.addoption("--reliability-report", type=Path, help="write a table of the promises tested, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Load the plugin that collects them."""
    path = config.getoption("--reliability-report")
    if path is not None:
        plugin = Path(__file__).with_name("reliability_report.py")
        spec = importlib.util.spec_from_file_location("reliability_report", plugin)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config.pluginmanager.register(module.Report(config.rootpath / path))


def _register_profiles() -> None:
    """How many examples a property is tried on, by HYPOTHESIS_PROFILE: ``dev``, ``ci`` or ``nightly``."""
    if importlib.util.find_spec("hypothesis") is None:  # the tests that need it skip themselves
        return
    from hypothesis import HealthCheck, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    # No deadline and no judgement of slowness: a busy machine must not fail a test. What differs between profiles is
    # said in full, for Hypothesis has other defaults where the environment has CI: no new examples, and none is kept.
    patient = settings(
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
        derandomize=False,
        database=DirectoryBasedExampleDatabase(
            Path(".hypothesis/examples").absolute()
        ),  # a test may change directory
    )
    # Derandomised, `dev` too: two runs of `make test` on the same sources try the same examples and say the same. New
    # ones are looked for at night, and a failure is then kept in .hypothesis (ignored by git), so that it comes back.
    repeatable = settings(patient, derandomize=True, database=None)
    settings.register_profile("dev", repeatable, max_examples=25)
    settings.register_profile("ci", repeatable, max_examples=100)
    settings.register_profile("nightly", patient, max_examples=2000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


# While this file is loaded, so that --hypothesis-profile, which is read after it, wins.
_register_profiles()


@pytest.fixture
def cpu() -> Runtime:
    """One process on the CPU."""
    return Runtime.start("cpu")


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go below the test's folder, never into the checkout, and no setting leaks in from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, which takes it seconds."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    store = open_store(f"sqlite:///{path}")
    store.client._tracking_client.store.engine.dispose()
    return path


@pytest.fixture
def own_store(empty_store: Path, tmp_path: Path) -> None:
    """A copy of it, where runs of the test go."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")


def make_interactions(
    num_users: int = 40, num_items: int = 30, longest: int = 25, seed: int = 0
) -> Interactions:
    """Users who walk around a ring of items with small steps: the next item is predictable, not certain."""
    rng = np.random.default_rng(seed)
    sequences = {}
    for user in range(num_users):
        length = int(rng.integers(4, longest + 1))
        steps = rng.integers(1, 4, size=length)
        places = (rng.integers(num_items) + np.cumsum(steps)) % num_items
        sequences[f"u{user}"] = [f"i{place}" for place in places]
    return Interactions.from_sequences(sequences)


@pytest.fixture
def interactions() -> Interactions:
    """40 users, at most 30 items, histories of 4 to 25."""
    return make_interactions()


@pytest.fixture
def split(interactions: Interactions) -> LeaveOneOut:
    """The same, split leave-one-out."""
    return leave_one_out(interactions)


def write_atomic(folder: Path, interactions: Interactions, name: str = "toy") -> Path:
    """An ``.inter`` file with the position as time; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.inter"
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, raw in enumerate(interactions.user_ids):
        for place, item in enumerate(interactions.sequence(user)):
            lines.append(f"{raw}\t{interactions.item_ids[item - 1]}\t{place}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def toy_file(tmp_path: Path, interactions: Interactions) -> Path:
    """The toy interactions as a file."""
    return write_atomic(tmp_path / "data", interactions)


@pytest.fixture
def tiny() -> list[str]:
    """Settings that train a sequence model in a second."""
    return [
        "dim=16",
        "inner_dim=32",
        "max_length=10",
        "targets_per_batch=64",
        "epochs=2",
        "device=cpu",
        "num_threads=1",
    ]


@pytest.fixture
def write_npz(tmp_path: Path) -> Callable[..., Path]:
    """Function that writes a data file of features with three classes, some of its arrays replaced or left out."""

    def make(name: str = "toy", **changes: Any) -> Path:
        rng = numpy_generator(0, "npz")
        arrays: dict[str, Any] = {}
        for part, size in (("train", 20), ("test", 6)):
            y = np.repeat(np.arange(3), size)
            x = 3 * np.eye(3, 4)[y] + rng.normal(size=(len(y), 4))
            arrays |= {f"x_{part}": x.astype(np.float32), f"y_{part}": y}
        arrays |= changes
        path = tmp_path / f"{name}.npz"
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return path

    return make


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Function that leaves what an installer leaves of a package: a module, and what its metadata names."""

    def installed(
        name: str, module: str, value: str, folder: str = "site", group: str = "nearfar.methods"
    ) -> Path:
        site = tmp_path / folder
        described = site / f"{name}-1.0.dist-info"
        described.mkdir(parents=True)
        (site / f"{name}.py").write_text(module)
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (described / "entry_points.txt").write_text(f"[{group}]\nall = {value}\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return site

    return installed
