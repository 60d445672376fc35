"""What is loaded when: the command line answers without torch, a domain without its optional packages.

Every program runs in an interpreter of its own, because what is loaded once stays loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SLOW = ("torch", "torch_geometric", "tsai", "fastai", "recbole", "ray", "mlflow", "optuna", "pandas")
OPTIONAL = (
    "auto_LiRPA",
    "fastai",
    "filelock",
    "kornia",
    "lightly",
    "matplotlib",
    "mlflow",
    "optuna",
    "pandas",
    "ray",
    "recbole",
    "scipy",
    "sklearn",
    "torch_geometric",
    "torchvision",
    "triton",
    "tsai",
)
# The interpreter's own start and noise of a shared machine are outside; the best of three counts.
CPU_SECONDS = 0.5

Python = Callable[..., str]


def loaded_after(python: Python, program: str, modules: tuple[str, ...]) -> list[str]:
    """Which of ``modules`` a program loads."""
    report = f"import json, sys; print(json.dumps([m for m in {modules!r} if m in sys.modules]))"
    loaded: list[str] = json.loads(python(f"{program}\n{report}").splitlines()[-1])
    return loaded


def command(words: list[str], exit_code: int) -> str:
    """Program that runs ``nearfar`` with these words and insists on how it ends."""
    return f"from nearfar.pipelines.cli import run\nassert run({words!r}) == {exit_code}"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import nearfar.pipelines.cli", id="import"),
        pytest.param(command(["--help"], 0), id="help"),
        pytest.param(command(["--version"], 0), id="version"),
        pytest.param(command(["train", "--help"], 0), id="train-help"),
        pytest.param(command(["methods"], 0), id="methods"),
        pytest.param(command(["methods", "--json"], 0), id="methods-json"),
        pytest.param(command(["train", "recsys.mclrec", "epoch=3"], 2), id="unknown-key"),
        pytest.param(command(["train", "recsys.mclrec", "epochs=many"], 2), id="wrong-type"),
        pytest.param(command(["train", "recsys.mclrek"], 2), id="unknown-method"),
    ],
)
def test_the_command_line_answers_without_torch(program: str, python: Python) -> None:
    assert loaded_after(python, program, SLOW) == []


def test_a_slow_import_would_be_noticed(python: Python, tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import optuna"
    assert loaded_after(python, program, SLOW) == ["optuna"]


def test_cpu_time_of_the_command_line(python: Python) -> None:
    program = """
        import time
        began = time.process_time()
        import nearfar.pipelines.cli
        print(time.process_time() - began)
    """
    best = min(float(python(program)) for _ in range(3))
    assert best < CPU_SECONDS


BLOCK = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""

TOUCH = """
import importlib
module = importlib.import_module("nearfar.{domain}")
objects = [getattr(module, name) for name in module.__all__]
assert objects
"""

ASK_FOR_MLFLOW = """
from nearfar.errors import MissingDependencyError
from nearfar.optional import installed, require

assert not installed("mlflow")
try:
    require("mlflow", "tracking")
except MissingDependencyError as error:
    assert "pip install" in str(error)
else:
    raise AssertionError("mlflow was imported")
"""


def domains() -> list[str]:
    """Names of the domain packages."""
    folder = Path(__file__).parents[2] / "domains" / "nearfar"
    return sorted(path.parent.name for path in folder.glob("*/__init__.py"))


def test_domains_are_found() -> None:
    assert "recsys" in domains()


@pytest.mark.parametrize("domain", domains())
def test_a_domain_works_without_optional_packages(domain: str, python: Python) -> None:
    python(BLOCK + TOUCH.format(domain=domain))


@pytest.mark.parametrize("domain", domains())
def test_a_domain_leaves_optional_packages_alone(domain: str, python: Python) -> None:
    assert loaded_after(python, TOUCH.format(domain=domain), OPTIONAL) == []


def test_the_recommenders_are_among_what_is_touched(python: Python) -> None:
    names = python("import nearfar.recsys; print(*nearfar.recsys.__all__)").split()
    assert {"MCLRec", "Recommender", "SASRec"} <= set(names)


def test_the_block_blocks(python: Python) -> None:
    python(BLOCK + ASK_FOR_MLFLOW)
