"""Calls by which a file or a setting could run a program: every one there is, and why it may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("common", "domains", "pipelines", "benchmarks")

# Where, which, why.
ALLOWED = {
    (
        "common/nearfar/interop/recbole/loading.py",
        "torch.load with another pickle module",
    ): "the reader that runs nothing",
    ("common/nearfar/config/yaml12.py", "yaml.load"): "with a SafeLoader",
    (
        "common/nearfar/data/pickle_machine.py",
        "import pickle",
    ): "the readers that run nothing are derived from it",
    ("common/nearfar/data/array_pickle.py", "import pickle"): "names its error",
    ("common/nearfar/interop/recbole/checkpoint_pickle.py", "import pickle"): "names its error",
    (
        "common/nearfar/interop/recbole/loading.py",
        "import pickle",
    ): "names its errors; given back to RecBole on request only",
    ("common/nearfar/training/checkpoint.py", "import zipfile"): "checksums are tested, nothing is extracted",
    ("common/nearfar/data/npz.py", "import zipfile"): "members are read, nothing is extracted",
}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile", "zipfile"}
LOADERS = {
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "marshal.load",
    "marshal.loads",
    "shelve.open",
    "dill.load",
}


def risks(tree: ast.AST) -> Iterator[str]:
    """What in a module could run what a file says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                f"import {name.name}" for name in node.names if name.name.partition(".")[0] in MODULES
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield f"import {node.module}"
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    last = name.rpartition(".")[2]
    if (
        name in LOADERS
        or name in ("eval", "exec", "compile", "__import__")
        or last in ("extractall", "unpack_archive")
    ):
        yield name
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        yield "torch.load without weights_only"
    if last == "_loading" and "pickle_module" in given:
        yield "torch.load with another pickle module"
    if name.endswith(("np.load", "numpy.load")) and given.get("allow_pickle", "False") != "False":
        yield "np.load that may unpickle"
    if name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
        yield name
    if given.get("shell") == "True" or name in ("os.system", "os.popen"):
        yield "a shell"
    if last in ("read_pickle", "to_pickle") or (
        last == "read_array" and given.get("allow_pickle", "False") != "False"
    ):
        yield name


def found() -> set[tuple[str, str]]:
    """Place and risk of all there are."""
    return {
        (str(path.relative_to(ROOT)), risk)
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        for risk in risks(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_nothing_else_runs_what_a_file_says() -> None:
    """And no permission is left over."""
    there = found()
    assert there - set(ALLOWED) == set(), "use a safe reader, or say in ALLOWED why this one may be"
    assert set(ALLOWED) - there == set(), "no longer there: take it off the list"


def test_the_scan_finds_each_of_them() -> None:
    """A line of every kind."""
    lines = [
        *("pickle.loads(x)", "import pickle", "from pickle import load", "torch.load(p)", "import tarfile"),
        *(
            "torch.load(p, weights_only=False)",
            "np.load(p, allow_pickle=True)",
            "eval(x)",
            "exec(x)",
        ),
        *(
            "yaml.load(x, L)",
            "shelve.open(p)",
            "import joblib",
            "subprocess.run(x, shell=True)",
            "os.system(x)",
        ),
        *("archive.extractall(p)", "shutil.unpack_archive(p)", "pandas.read_pickle(p)", "marshal.loads(x)"),
    ]
    for line in lines:
        assert list(risks(ast.parse(line))), line
    for line in (
        "torch.load(p, weights_only=True)",
        "np.load(p, allow_pickle=False)",
        "model.eval()",
        "re.compile(x)",
    ):
        assert not list(risks(ast.parse(line))), line
