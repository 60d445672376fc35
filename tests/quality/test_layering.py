"""common <- domains <- pipelines: who may import whom, found in the syntax trees of all sources.

Reading instead of importing finds what no run would: an import inside a function that is never called,
one for type checkers only, a module that is named as text and imported later.
"""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from nearfar.optional import PACKAGES

Trees = Mapping[str, ast.Module]

BANNED_NAMES = {"utils", "helpers", "misc", "base"}
HEAVY = {
    "auto_LiRPA",
    "cleanlab",
    "fastai",
    "filelock",
    "imblearn",
    "kornia",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "pandas",
    "pyarrow",
    "recbole",
    "scipy",
    "sklearn",
    "torch_geometric",
    "triton",
    "tsai",
    "usearch",
}
# MLflow itself executes the first, so mlflow is loaded before its first line runs; the others are subclasses
# of RecBole's, imported by register_recbole only.
MAY_IMPORT_HEAVY = {
    "domains/nearfar/recsys/serving_model.py",
    "domains/nearfar/recsys/recbole/model.py",
    "domains/nearfar/recsys/recbole/trainer.py",
}
MAY_PRINT = {"pipelines/nearfar/pipelines/cli.py"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        line: Where.
        module: Absolute dotted name; that of the part after ``from``.
        names: What is taken from it; empty for ``import module``.
        eager: Whether it happens when the importing module is imported.
        relative: Whether it was written with leading dots.
    """

    line: int
    module: str
    names: tuple[str, ...]
    eager: bool
    relative: bool = False

    def candidates(self) -> Iterator[str]:
        """Dotted names that may be modules: ``from nearfar import errors`` means ``nearfar.errors``."""
        yield self.module
        yield from (f"{self.module}.{name}" for name in self.names)


def module_name(path: str) -> str:
    """``common/nearfar/config/__init__.py`` is ``nearfar.config``."""
    parts = PurePosixPath(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_name(path: str) -> str:
    """What leading dots in an import of this file start from."""
    return ".".join(PurePosixPath(path).parts[1:-1])


def imports(path: str, tree: ast.Module) -> list[Import]:
    """Every import statement of a file, wherever it stands."""
    found: list[Import] = []

    def visit(node: ast.AST, eager: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(node.lineno, alias.name, (), eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append(Import(node.lineno, _target(path, node), names, eager, node.level > 0))
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                visit(statement, False)
            for statement in node.orelse:
                visit(statement, eager)
        else:
            inside = eager and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for child in ast.iter_child_nodes(node):
                visit(child, inside)

    visit(tree, True)
    return found


def _target(path: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    start = package_name(path).split(".")
    kept = start[: len(start) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])


def layer_of(module: str, trees: Trees) -> tuple[str, str] | None:
    """Root and first name below ``nearfar`` of a dotted name; ``None`` for other people's modules."""
    parts = module.split(".")
    if parts[0] != "nearfar" or len(parts) < 2:
        return None
    for path in trees:
        root, _, first = PurePosixPath(path).parts[:3]
        if first.removesuffix(".py") == parts[1]:
            return root, parts[1]
    return None


def wrong_directions(trees: Trees) -> list[str]:
    """Imports against the direction common <- domains <- pipelines, and between domains."""
    return [
        f"{path}:{line}: {own[0]} must not know {target}"
        for path, tree in trees.items()
        if (own := layer_of(module_name(path), trees))
        for line, target in _mentions(path, tree)
        if (other := layer_of(target, trees)) and not _allowed(own, other)
    ]


def _allowed(own: tuple[str, str], other: tuple[str, str]) -> bool:
    order = ("common", "domains", "pipelines")
    if own[0] == other[0] == "domains":
        return own[1] == other[1]
    return order.index(other[0]) <= order.index(own[0])


def _mentions(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Modules imported, and modules named as text to be imported later."""
    for entry in imports(path, tree):
        for candidate in entry.candidates():
            yield entry.line, candidate
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.match(r"(nearfar(\.\w+)+)\.?(:\w+)?$", node.value)
            if named:
                yield node.lineno, named[1]


def relative_escapes(trees: Trees) -> list[str]:
    """Relative imports that leave their package: across packages and roots they have to be absolute."""
    return [
        f"{path}:{entry.line}: relative import of {entry.module}"
        for path, tree in trees.items()
        for entry in imports(path, tree)
        if entry.relative and entry.module.split(".")[:2] != package_name(path).split(".")[:2]
    ]


def import_graph(trees: Trees) -> dict[str, set[str]]:
    """For every module the modules that importing it imports first."""
    known = {module_name(path) for path in trees}
    graph: dict[str, set[str]] = {}
    for path, tree in trees.items():
        own = module_name(path)
        edges: set[str] = set()
        for entry in imports(path, tree):
            if entry.eager:
                edges |= _edges(own, entry, known)
        graph[own] = edges - {own}
    return graph


def _edges(own: str, entry: Import, known: set[str]) -> set[str]:
    submodules = {f"{entry.module}.{name}" for name in entry.names} & known
    # `from package import submodule` needs nothing from the package itself, which may be half-imported.
    direct = submodules if submodules and len(submodules) == len(entry.names) else submodules | {entry.module}
    parents = {".".join(target.split(".")[:n]) for target in direct for n in range(1, target.count(".") + 1)}
    # Python runs the parents of a module first; those of this module are already being imported.
    return (direct | {parent for parent in parents if not f"{own}.".startswith(f"{parent}.")}) & known


def cycle(trees: Trees) -> list[str]:
    """Modules that import each other in a circle, empty if there are none."""
    try:
        graphlib.TopologicalSorter(import_graph(trees)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def heavy_imports(trees: Trees) -> list[str]:
    """Optional packages imported whenever the module is, needed or not."""
    return [
        f"{path}:{entry.line}: {entry.module} is optional; import it where it is used, through nearfar.optional"
        for path, tree in trees.items()
        if path not in MAY_IMPORT_HEAVY
        for entry in imports(path, tree)
        if entry.eager and entry.module.partition(".")[0] in HEAVY
    ]


def prints(trees: Trees) -> list[str]:
    """Calls of ``print`` outside the command line."""
    return [
        f"{path}:{node.lineno}: print() in a library"
        for path, tree in trees.items()
        if path not in MAY_PRINT
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def bad_names(trees: Trees) -> list[str]:
    """Modules and packages whose name says nothing."""
    return [path for path in trees if BANNED_NAMES & set(PurePosixPath(path).with_suffix("").parts)]


def split_packages(trees: Trees) -> list[str]:
    """First names below ``nearfar`` that two roots claim: one would hide the other."""
    owners: dict[str, set[str]] = {}
    for path in trees:
        root, _, first = PurePosixPath(path).parts[:3]
        owners.setdefault(first.removesuffix(".py"), set()).add(root)
    return [f"nearfar.{name} is in {', '.join(sorted(r))}" for name, r in owners.items() if len(r) > 1]


def missing_inits(trees: Trees) -> list[str]:
    """Folders of modules without ``__init__.py``: checkers and packagers treat them differently."""
    folders = {PurePosixPath(path).parent for path in trees}
    return [str(f) for f in sorted(folders) if len(f.parts) > 2 and f"{f}/__init__.py" not in trees]


CHECKS = (
    wrong_directions,
    relative_escapes,
    cycle,
    heavy_imports,
    prints,
    bad_names,
    split_packages,
    missing_inits,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sources(check: Callable[[Trees], list[str]], trees: Trees) -> None:
    found = check(trees)
    assert not found, "\n".join(found)


def test_every_optional_package_counts_as_heavy() -> None:
    assert set(PACKAGES) <= HEAVY


A, B = "common/nearfar/a.py", "common/nearfar/b.py"
GRAPH, RECSYS = "domains/nearfar/graph", "domains/nearfar/recsys"
P, Q = "common/nearfar/p", "common/nearfar/q"

# What each check has to find: (check, files of a checkout, part of the message).
PLANTED: list[tuple[Callable[[Trees], list[str]], dict[str, str], str]] = [
    (wrong_directions, {A: "from nearfar.recsys import x"}, "a.py:1: common"),
    (wrong_directions, {A: "import nearfar.pipelines.cli"}, "a.py:1: common"),
    (wrong_directions, {A: "from nearfar import recsys"}, "nearfar.recsys"),
    (wrong_directions, {A: "def f():\n    from nearfar.graph import x"}, "a.py:2: common"),
    (wrong_directions, {A: "if TYPE_CHECKING:\n    import nearfar.graph"}, "a.py:2: common"),
    (wrong_directions, {A: "HOME = 'nearfar.graph.pot:POT'"}, "nearfar.graph.pot"),
    (wrong_directions, {A: "import_module(f'nearfar.recsys.{x}')"}, "nearfar.recsys"),
    (wrong_directions, {f"{P}/a.py": "from ..recsys import x"}, "nearfar.recsys"),
    (wrong_directions, {f"{GRAPH}/a.py": "from nearfar.recsys import x"}, "domains must not"),
    (wrong_directions, {f"{GRAPH}/a.py": "from ..recsys.split import x"}, "domains must not"),
    (wrong_directions, {f"{GRAPH}/a.py": "import nearfar.pipelines"}, "nearfar.pipelines"),
    (relative_escapes, {f"{GRAPH}/a.py": "from ..errors import x"}, "nearfar.errors"),
    (relative_escapes, {A: "from .errors import x"}, "nearfar.errors"),
    (cycle, {A: "import nearfar.b", B: "import nearfar.a"}, "nearfar.a"),
    (cycle, {A: "try:\n    import nearfar.b\nexcept E: pass", B: "from nearfar import a"}, "nearfar.a"),
    (
        cycle,  # a module asks its own package, which is still being imported
        {f"{GRAPH}/a.py": "from nearfar.graph import x", f"{GRAPH}/__init__.py": "import nearfar.graph.a"},
        "nearfar.graph.a",
    ),
    (
        cycle,  # through packages, whose __init__ runs before their modules
        {f"{P}/__init__.py": "import nearfar.q.a", f"{Q}/__init__.py": "import nearfar.p.b"}
        | {f"{P}/b.py": "", f"{Q}/a.py": ""},
        "nearfar.p",
    ),
    (heavy_imports, {A: "import pandas as pd"}, "pandas"),
    (heavy_imports, {A: "try:\n    from scipy.sparse import x\nexcept E:\n    pass"}, "a.py:2"),
    (heavy_imports, {A: "class A:\n    import mlflow.pyfunc"}, "mlflow"),
    (prints, {A: "def f():\n    print(1)"}, "a.py:2"),
    (bad_names, {"common/nearfar/utils.py": ""}, "utils"),
    (bad_names, {f"{GRAPH}/base/__init__.py": ""}, "base"),
    (split_packages, {"common/nearfar/graph/__init__.py": ""}, "common, domains"),
    (missing_inits, {f"{P}/q/a.py": ""}, f"{P}/q"),
]

# A tree without fault, to which one fault is added at a time.
SOUND = {
    "common/nearfar/errors.py": "import torch",
    f"{P}/__init__.py": "from nearfar.p.c import x",
    f"{P}/c.py": "from . import d\nfrom nearfar.p import e",
    f"{P}/d.py": "if TYPE_CHECKING:\n    import pandas\n    from nearfar.p.c import x",
    f"{P}/e.py": "def f():\n    import pandas\n    from nearfar.p.c import x",
    f"{GRAPH}/__init__.py": "from nearfar.errors import x",
    f"{RECSYS}/__init__.py": "HOME = 'nearfar.recsys.split:f'",
    f"{RECSYS}/serving_model.py": "import mlflow",
    f"{RECSYS}/split.py": '"""Words about nearfar.graph and print()."""\nfrom . import x',
    "pipelines/nearfar/pipelines/__init__.py": "from nearfar.recsys import x\nimport nearfar.graph",
    "pipelines/nearfar/pipelines/cli.py": "print(1)",
}


def plant(folder: Path, files: Mapping[str, str]) -> None:
    """Write a checkout."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_false_alarm(
    check: Callable[[Trees], list[str]], parse: Callable[[Path], Trees], tmp_path: Path
) -> None:
    plant(tmp_path, SOUND)
    assert check(parse(tmp_path)) == []


@pytest.mark.parametrize(("check", "files", "message"), PLANTED)
def test_planted_violations_are_found(
    check: Callable[[Trees], list[str]],
    files: dict[str, str],
    message: str,
    parse: Callable[[Path], Trees],
    tmp_path: Path,
) -> None:
    plant(tmp_path, SOUND | files)
    found = check(parse(tmp_path))
    assert message in "\n".join(found)
