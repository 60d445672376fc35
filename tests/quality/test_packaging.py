"""What is shipped: the wheel, an installation of it, the editable one, and each extra by itself."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NEVER_LEFT_OUT = {".py", ".yaml", ".typed"}
EXTRAS = {
    "all",
    "ann",
    "bench",
    "calibration",
    "graph",
    "images",
    "lirpa",
    "longtail",
    "onnx",
    "recbole",
    "recsys",
    "timeseries",
    "track",
    "tune",
}
# Their published pins make every extra that contains them impossible to install.
UNPUBLISHABLE = {"auto-lirpa", "recbole"}
# Names of our folders that would be in the way of everybody else's.
OURS_ONLY_HERE = {"benchmarks", "common", "conftest", "conftest.py", "domains", "pipelines", "tests"}

Python = Callable[..., str]


def build(kind: str, tree: Path, folder: Path) -> Path:
    """Build a wheel or an sdist of a tree without network: hatchling is called directly."""
    pytest.importorskip("hatchling", reason="needs the development tools: make setup")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout."""
    return build("wheel", repository, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, bytes]:
    """Files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel: Path) -> Message:
    """METADATA of a wheel."""
    (text,) = (data for name, data in contents(wheel).items() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(text)


def sources(roots: list[Path]) -> set[str]:
    """What the three roots hold, by its place in the wheel."""
    files = ((root, path) for root in roots for path in root.rglob("*") if path.is_file())
    return {
        f"nearfar/{path.relative_to(root).as_posix()}"
        for root, path in files
        if path.parent.name != "__pycache__"
    }


def wheel_faults(names: set[str], expected: set[str]) -> list[str]:
    """What is wrong with the file list of a wheel."""
    paths = {name: PurePosixPath(name) for name in sorted(names | expected)}
    missing = [n for n, path in paths.items() if n not in names and path.suffix in NEVER_LEFT_OUT]
    strange = [
        n for n, path in paths.items() if n not in expected and not path.parts[0].endswith(".dist-info")
    ]
    tests = [n for n, path in paths.items() if n in names and path.name.startswith(("test_", "conftest"))]
    return [
        *(f"{name} is missing" for name in missing),
        *(f"{name} does not belong in it" for name in strange),
        *(f"{name} is a test" for name in tests),
    ]


def test_wheel(wheel: Path, roots: list[Path]) -> None:
    names = set(contents(wheel))
    assert {PurePosixPath(name).parts[0] for name in names} == {
        "nearfar",
        f"nearfar-{metadata(wheel)['Version']}.dist-info",
    }
    assert {"nearfar/py.typed", "nearfar/pipelines/cli.py", "nearfar/recsys/__init__.py"} <= names
    assert any(name.endswith(".yaml") for name in names), "no recipe is shipped"
    assert wheel_faults(names, sources(roots)) == []


def test_faults_of_a_wheel_are_found(wheel: Path, roots: list[Path]) -> None:
    names, expected = set(contents(wheel)), sources(roots)
    for name in (
        "nearfar/py.typed",
        "nearfar/errors.py",
        "nearfar/pipelines/recipes/recsys.mclrec/ml-100k.yaml",
    ):
        assert wheel_faults(names - {name}, expected) == [f"{name} is missing"]
    assert wheel_faults(names | {"common/a.py"}, expected) == ["common/a.py does not belong in it"]
    assert "nearfar/test_a.py is a test" in wheel_faults(names | {"nearfar/test_a.py"}, expected)


def required(message: Message) -> set[str]:
    """Distributions that METADATA names, in any extra."""
    return {canonicalize_name(Requirement(line).name) for line in message.get_all("Requires-Dist", [])}


def test_metadata(wheel: Path) -> None:
    message = metadata(wheel)
    assert set(message.get_all("Provides-Extra", [])) >= EXTRAS
    assert not required(message) & UNPUBLISHABLE
    assert {"torch", "numpy", "pydantic", "typer"} <= required(message)
    # A URL in the requirements would tie users to one host.
    assert not [line for line in message.get_all("Requires-Dist", []) if "://" in line or " @ " in line]


def test_an_unpublishable_requirement_is_found() -> None:
    message = message_from_bytes(b"Requires-Dist: Auto_LiRPA==0.3 ; extra == 'lirpa'\n")
    assert required(message) & UNPUBLISHABLE


def test_console_script(wheel: Path) -> None:
    (text,) = (data for name, data in contents(wheel).items() if name.endswith("entry_points.txt"))
    assert "nearfar = nearfar.pipelines.cli:main" in text.decode()


def test_wheel_of_the_sdist_equals_wheel_of_the_tree(wheel: Path, repository: Path, tmp_path: Path) -> None:
    sdist = build("sdist", repository, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (tree,) = (tmp_path / "unpacked").iterdir()
    rebuilt = build("wheel", tree, tmp_path / "wheel")
    assert contents(rebuilt) == contents(wheel)


# --- an installation ------------------------------------------------------------------------------


def installer() -> list[str]:
    """``uv pip`` where there is a uv, else pip."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    return [uv, "pip"] if uv else [sys.executable, "-m", "pip"]


def checked(
    command: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> str:
    """Run a command that has to succeed; returns its standard output."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=None if environment is None else dict(environment),
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own, without its requirements."""
    target = tmp_path_factory.mktemp("installed")
    command = [*installer(), "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    checked([*command, str(wheel)])
    return target


def visible(folder: Path) -> set[str]:
    """Names in a folder, leaving out what an installer keeps for itself (``.lock``, bytecode)."""
    return {path.name for path in folder.iterdir() if path.name not in (".lock", "__pycache__")}


def test_installed_files(installed: Path) -> None:
    names = visible(installed)
    assert {name for name in names if not name.endswith(".dist-info")} == {"nearfar", "bin"}
    assert not names & OURS_ONLY_HERE
    assert not (installed / "nearfar" / "__init__.py").exists()


INSTALLED_PROGRAM = """
import json, nearfar, nearfar.errors, nearfar.recsys, nearfar.pipelines.cli
from nearfar.pipelines.recipes import recipe_layer
from nearfar.pipelines.registry import methods
from nearfar.pipelines.cli import run

assert run(["methods", "--json"]) == 0
assert recipe_layer("recsys.mclrec", "ml-100k") is not None, "the recipes are not found"
for entry in methods().values():
    entry.load("config")
files = [m.__file__ for m in (nearfar.errors, nearfar.recsys, nearfar.pipelines.cli)]
print(json.dumps({"path": list(nearfar.__path__), "files": files}))
"""


def test_installed_imports(installed: Path, python: Python) -> None:
    # Without `site` no .pth file is read, so that the editable installation beside it stays out of sight.
    libraries = [installed, *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))]
    found = json.loads(python(INSTALLED_PROGRAM, "-S", path=libraries).splitlines()[-1])
    assert found["path"] == [str(installed / "nearfar")]
    assert all(Path(file).is_relative_to(installed) for file in found["files"])


# --- the checkout ---------------------------------------------------------------------------------


@pytest.fixture
def editable(repository: Path) -> None:
    """Skips where the environment does not hold an editable installation of this checkout."""
    try:
        text = importlib.metadata.distribution("nearfar").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nearfar is not installed here; the tests read the sources through pytest's pythonpath")
    origin = json.loads(text or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        pytest.skip("nearfar is installed here, but not as an editable installation")
    if origin["url"] != repository.as_uri():
        pytest.skip("the editable installation here is that of another checkout")


@pytest.mark.usefixtures("editable")
def test_editable_paths(roots: list[Path], python: Python) -> None:
    program = "import json, nearfar; print(json.dumps(list(nearfar.__path__)))"
    found = [Path(path) for path in json.loads(python(program, path=[]))]
    assert sorted(found) == sorted(roots)


@pytest.fixture
def new_module(roots: list[Path]) -> Iterator[str]:
    """A module that was not there a moment ago; gone afterwards, whatever happens."""
    path = roots[0] / f"editable_probe_{os.getpid()}.py"
    try:
        path.write_text('"""Written by tests/quality/test_packaging.py."""\nVALUE = 42\n', encoding="utf-8")
        yield path.stem
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("editable")
def test_a_new_module_can_be_imported_at_once(new_module: str, python: Python) -> None:
    assert python(f"from nearfar.{new_module} import VALUE; print(VALUE)", path=[]).strip() == "42"


def namespace_inits(roots: list[Path]) -> list[Path]:
    """Files that would make one root hide the other two."""
    return [path for root in roots for path in root.glob("__init__.py*")]


def test_no_namespace_init(roots: list[Path], tmp_path: Path) -> None:
    assert namespace_inits(roots) == []
    (tmp_path / "__init__.py").touch()
    assert namespace_inits([*roots, tmp_path]) == [tmp_path / "__init__.py"]


def test_no_collision() -> None:
    places = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    found = {name for place in places for name in visible(place)} & OURS_ONLY_HERE
    assert not found


# --- the lock ----------------------------------------------------------------------------------------

LOCKS = "tests/locks"
# Installed before the rest, in the build that suits the machine.
NOT_LOCKED = {"torch", "torchvision"}
PYTHONS = ("3.11", "3.12", "3.13")


def locked(repository: Path) -> list[Requirement]:
    """Lines of the lock."""
    lines = (repository / LOCKS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def direct(repository: Path) -> list[Requirement]:
    """What ``nearfar[all]`` and the group ``interop`` name."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    (everything,) = (Requirement(line) for line in extras["all"])
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["interop"]]
    return [
        Requirement(line) for line in lines + [each for name in everything.extras for each in extras[name]]
    ]


def test_the_lock_has_all_that_is_named(repository: Path) -> None:
    pins: dict[str, list[str]] = {}
    for pin in locked(repository):
        (version,) = pin.specifier
        assert version.operator == "=="
        assert pin.url is None
        pins.setdefault(canonicalize_name(pin.name), []).append(version.version)
    for asked in direct(repository):
        name = canonicalize_name(asked.name)
        if name not in NOT_LOCKED:
            assert name in pins, f"{name} is not locked; run: make lock"
            assert all(asked.specifier.contains(version) for version in pins[name]), f"{asked}: {pins[name]}"
    assert not {"ray", "thop"} & set(pins)


def resolved(repository: Path, environment: Mapping[str, str], *arguments: str) -> set[str]:
    """Packages that uv would install."""
    command = [*installer(), "compile", "--quiet", "--no-header", "--no-annotate", *arguments]
    if installer()[1] != "pip" or "uv" not in Path(command[0]).name:
        pytest.skip("needs uv")
    return set(checked(command, environment, repository).splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_everything_resolves(version: str, repository: Path, index_environment: dict[str, str]) -> None:
    wanted = ["--python-version", version, "--all-extras", "--group", "dev", "pyproject.toml"]
    found = {line.partition("==")[0] for line in resolved(repository, index_environment, *wanted)}
    assert {"torch", "tsai", "recbole", "auto-lirpa", "mlflow", "optuna"} <= found
    assert not {"ray", "thop", "pylint"} & found


@pytest.mark.slow
def test_overrides_make_the_stale_pins_installable(
    repository: Path, index_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("recbole==1.2.1\nauto-LiRPA==0.3\n", encoding="utf-8")
    wanted = ["--override", f"{LOCKS}/overrides.txt", str(tmp_path / "in.txt")]
    found = resolved(repository, index_environment, *wanted)
    assert {"recbole==1.2.1", "auto-lirpa==0.3"} <= found
    assert any(line.startswith("torch==2.13.") for line in found)
    assert not [line for line in found if line.startswith(("ray", "thop"))]


# --- each extra in an environment of its own (slow: minutes, and needs a package index) -----------

OPTIONAL = ("auto_LiRPA", "kornia", "mlflow", "optuna", "recbole", "torch_geometric", "tsai")
# Other extras may bring these along; the base must not.
NOT_IN_BASE = {"matplotlib", "pandas", "psutil", "scipy", "sklearn"}
# Which of the optional packages an extra brings; it must bring none of the others. `recbole` and `lirpa`
# bring what those packages need, never the packages.
BRINGS: dict[str, set[str]] = {
    "": set(),
    "recsys": {"pandas", "scipy", "sklearn"},
    "graph": {"torch_geometric"},
    "timeseries": {"tsai"},
    "images": {"kornia"},
    "track": {"mlflow", "filelock", "matplotlib"},
    "tune": {"optuna"},
    "recbole": {"pandas", "colorlog", "texttable"},
    "lirpa": {"appdirs", "ninja"},
    "calibration": {"sklearn"},
    "longtail": {"sklearn"},
}

EXTRA_PROGRAM = f"""
import importlib.util, json, sys
import nearfar.recsys
from nearfar.pipelines.cli import run

assert run(["methods"]) == 0
for name in nearfar.recsys.__all__:
    getattr(nearfar.recsys, name)
assert not [m for m in {OPTIONAL!r} if m in sys.modules]
import torch
wanted = [*{OPTIONAL!r}, *sys.argv[1:]]
found = [m for m in wanted if importlib.util.find_spec(m) is not None]
print(json.dumps({{"found": found, "torch": torch.__version__, "file": nearfar.recsys.__file__}}))
"""


@pytest.fixture(scope="session")
def index_environment() -> dict[str, str]:
    """The environment for an installer, with pip's find-links handed on to uv as ``.ci/setup`` does.

    uv does not read pip's setting, and without a folder that has a CPU build it takes the one for CUDA.
    """
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    links = kept.get("UV_FIND_LINKS") or kept.get("PIP_FIND_LINKS") or _configured_links()
    return kept | ({"UV_FIND_LINKS": ",".join(links.replace(",", " ").split())} if links else {})


def _configured_links() -> str:
    for key in ("install.find-links", "global.find-links"):
        for python in (sys.executable, "python3"):
            command = [python, "-m", "pip", "config", "get", key]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.strip()
    return ""


@pytest.fixture
def fresh(tmp_path: Path, index_environment: dict[str, str]) -> Iterator[Path]:
    """Python of a new environment, removed afterwards: each holds a copy of torch."""
    folder = tmp_path / "environment"
    uv = installer()[0] if installer()[1] == "pip" else None
    make = [uv, "venv", "--quiet", "--python", sys.executable] if uv else [sys.executable, "-m", "venv"]
    try:
        checked([*make, str(folder)], index_environment)
        yield folder / "bin" / "python"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(python: Path, requirement: str, environment: Mapping[str, str], folder: Path) -> None:
    """Install under the constraint that this project is tested with."""
    constraint = folder / "constraint.txt"
    constraint.write_text("torch==2.13.*\n", encoding="utf-8")
    if installer()[1] == "pip":
        command = [*installer(), "install", "--quiet", "--python", str(python)]
    else:
        command = [str(python), "-m", "pip", "install", "--quiet"]
    checked([*command, "--constraint", str(constraint), requirement], environment)


@pytest.mark.slow
@pytest.mark.parametrize("extra", BRINGS, ids=lambda extra: extra or "base")
def test_extra(
    extra: str, wheel: Path, fresh: Path, index_environment: dict[str, str], tmp_path: Path
) -> None:
    brackets = f"[{extra}]" if extra else ""
    install(fresh, f"nearfar{brackets} @ {wheel.as_uri()}", index_environment, tmp_path)
    asked = BRINGS[extra] if extra else NOT_IN_BASE
    more = sorted(asked - set(OPTIONAL))
    output = checked([str(fresh), "-c", EXTRA_PROGRAM, *more], index_environment, tmp_path)
    report = json.loads(output.splitlines()[-1])
    assert set(report["found"]) == BRINGS[extra]
    assert report["torch"].startswith("2.13.")
    assert Path(report["file"]).is_relative_to(fresh.parents[1])
    script = checked([str(fresh.with_name("nearfar")), "methods"], index_environment, tmp_path)
    assert "recsys.mclrec" in script


@pytest.mark.slow
def test_plain_pip_installs_the_lock(
    wheel: Path, repository: Path, index_environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "environment"
    checked([sys.executable, "-m", "venv", str(folder)], index_environment)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet"]
    try:
        checked([*pip, "torch==2.13.*"], index_environment)
        checked([*pip, "--no-deps", "-r", str(repository / LOCKS / "requirements.txt")], index_environment)
        checked([*pip, "--no-deps", str(wheel)], index_environment)
        report = checked([python, "-m", "nearfar.pipelines", "doctor"], index_environment, tmp_path)
        # Names are those of modules; what `all` leaves out may be missing, and triton is PyTorch's own.
        missing = set(re.findall(r"^(\S+) is missing", report, flags=re.MULTILINE))
        assert missing <= {"cleanlab", "onnx", "onnxruntime", "onnxscript", "triton", "usearch"}, report
        assert re.search(r"recbole\W+1\.2\.1\W+ok", report)
        assert re.search(r"auto_LiRPA\W+0\.3\W+ok", report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
