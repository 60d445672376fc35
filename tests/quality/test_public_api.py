"""The public names and signatures, compared with the list in ``public_api.txt``.

Users' code depends on each line of that list, so a line changes only on purpose, together with the list:
``python tests/quality/regenerate.py`` writes it anew.

The list is read off the syntax trees: signatures stay as written, whatever the versions of Python and
pydantic make of them at run time. Public is what a package or module names in ``__all__``; where a package (or
``nearfar`` itself) has none, its modules are the way in: what they name in ``__all__``, else what they
define. The way into ``nearfar.pipelines`` is the command line (``cli.txt``), so there only ``__all__`` counts.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

STORED = Path(__file__).with_name("public_api.txt")
APPLICATION = "nearfar.pipelines."
REGENERATE = "if this is meant, run: python tests/quality/regenerate.py"

Trees = Mapping[str, ast.Module]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True)
class Module:
    """One source file under its import name.

    Attributes:
        name: Dotted.
        package: Whether it is an ``__init__.py``.
        definitions: What its top level defines, by name.
        constants: Values its top level assigns, by name.
        imported: Where its imported names come from, as (module, name).
        exports: Its ``__all__``, if it has one.
    """

    name: str
    package: bool
    definitions: Mapping[str, Definition]
    constants: Mapping[str, ast.expr]
    imported: Mapping[str, tuple[str, str]]
    exports: tuple[str, ...] | None


def read_modules(trees: Trees) -> dict[str, Module]:
    """All modules by import name."""
    modules = (read_module(path, tree) for path, tree in trees.items())
    return {module.name: module for module in modules}


def read_module(path: str, tree: ast.Module) -> Module:
    """Look through the top level of a file; branches of ``if TYPE_CHECKING`` are part of it."""
    parts = PurePosixPath(path).with_suffix("").parts[1:]
    package = parts[-1] == "__init__"
    definitions: dict[str, Definition] = {}
    constants: dict[str, ast.expr] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in _top_level(tree.body):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            values = dict(_assigned(node))
            constants |= values
            definitions |= dict.fromkeys(values, node)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                imported[alias.asname or alias.name] = (node.module, alias.name)
    exports = _exports(definitions.pop("__all__", None))
    name = ".".join(parts[:-1] if package else parts)
    return Module(name, package, definitions, constants, imported, exports)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _top_level(node.body + node.orelse)


def _assigned(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[str, ast.expr]]:
    """Names and values, of ``A = 1`` and of ``A, B = 1, 2``."""
    if node.value is None:
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
        left = target.elts if several and isinstance(target, ast.Tuple) else [target]
        right = node.value.elts if several and isinstance(node.value, ast.Tuple) else [node.value]
        yield from ((t.id, value) for t, value in zip(left, right, strict=True) if isinstance(t, ast.Name))


def _exports(node: Definition | None) -> tuple[str, ...] | None:
    if not isinstance(node, ast.Assign):
        return None
    assert isinstance(node.value, (ast.List, ast.Tuple)), (
        "write __all__ as a plain list, so that tools see it"
    )
    return tuple(ast.literal_eval(node.value))


def public_names(modules: Mapping[str, Module]) -> dict[str, tuple[Module, str]]:
    """Every public path with the module and the name it leads to."""
    found: dict[str, tuple[Module, str]] = {}
    for module in modules.values():
        hidden = module.name.rpartition(".")[2].startswith("_") or _inside_closed(module, modules)
        if module.exports is not None:
            names = list(module.exports)
        elif hidden or f"{module.name}.".startswith(APPLICATION):
            continue
        else:
            names = [name for name, node in module.definitions.items() if _is_public(name, node)]
        found |= {f"{module.name}.{name}": locate(modules, module.name, name) for name in names}
    return found


def _inside_closed(module: Module, modules: Mapping[str, Module]) -> bool:
    """Whether a package around a module says itself what is public in it."""
    parts = module.name.split(".")
    around = (modules.get(".".join(parts[:n])) for n in range(1, len(parts)))
    return any(package is not None and package.exports is not None for package in around)


def _is_public(name: str, node: Definition) -> bool:
    return not name.startswith("_") and isinstance(node, (ast.FunctionDef, ast.ClassDef))


def locate(modules: Mapping[str, Module], module: str, name: str) -> tuple[Module, str]:
    """Follow re-exports to the module that defines a name."""
    place = modules[module]
    if name in place.definitions:
        return place, name
    assert name in place.imported, f"{module} exports {name}, which it neither defines nor imports"
    return locate(modules, *place.imported[name])


def public_api(trees: Trees) -> list[str]:
    """One line per public object and per public part of a class."""
    modules = read_modules(trees)
    names = public_names(modules)
    # An object that two packages export is described where its path is shortest.
    home: dict[tuple[str, str], str] = {}
    for path in sorted(names, key=lambda path: (path.count("."), path)):
        module, name = names[path]
        home.setdefault((module.name, name), path)
    lines: list[str] = []
    for path, (module, name) in sorted(names.items()):
        first = home[module.name, name]
        if first != path:
            lines.append(f"{path} is {first}")
        else:
            lines += describe(path, module, name, modules, set(home))
    return lines


def describe(
    path: str, module: Module, name: str, modules: Mapping[str, Module], public: set[tuple[str, str]]
) -> list[str]:
    """The lines of one object."""
    node = module.definitions[name]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [f"{path}{signature(node, module)}"]
    if not isinstance(node, ast.ClassDef):
        return [f"{path}{_literal(module.constants.get(name))}"]
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    decorators = "".join(f"@{ast.unparse(d)} " for d in node.decorator_list)
    head = f"{decorators}class {path}{f'({bases})' if bases else ''}"
    return [head, *sorted(f"{path}.{member}" for member in members(node, module, modules, public).values())]


def _literal(node: ast.expr | None) -> str:
    """`` = value`` of a constant that is plain data."""
    try:
        return "" if node is None else f" = {ast.literal_eval(node)!r}"
    except ValueError:
        return ""


def members(
    node: ast.ClassDef, module: Module, modules: Mapping[str, Module], public: set[tuple[str, str]]
) -> dict[str, str]:
    """Public fields and methods by name, those of bases that are not public themselves included."""
    found: dict[str, str] = {}
    for base in node.bases:
        place = _find(modules, module, base)
        if place is not None and place not in public:
            home = modules[place[0]]
            definition = home.definitions[place[1]]
            if isinstance(definition, ast.ClassDef):
                found |= members(definition, home, modules, public)
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and _shown(part.name):
            found[part.name] = method(part, module)
        elif isinstance(part, (ast.Assign, ast.AnnAssign)):
            target = part.targets[0] if isinstance(part, ast.Assign) else part.target
            if isinstance(target, ast.Name) and _shown(target.id):
                found[target.id] = field(target.id, part, module)
    return found


def _find(modules: Mapping[str, Module], module: Module, base: ast.expr) -> tuple[str, str] | None:
    if not isinstance(base, ast.Name):
        return None
    if base.id in module.definitions:
        return module.name, base.id
    source = module.imported.get(base.id)
    if source is None or source[0] not in modules:
        return None
    home, name = locate(modules, *source)
    return home.name, name


def _shown(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__")


def method(node: ast.FunctionDef, module: Module) -> str:
    """A method with the decorators that decide how it is called."""
    kinds = ("property", "classmethod", "staticmethod", "abstractmethod", "cached_property")
    shown = [ast.unparse(d) for d in node.decorator_list if ast.unparse(d) in kinds]
    return f"{node.name}{signature(node, module)}{''.join(f' @{name}' for name in shown)}"


def field(name: str, node: ast.Assign | ast.AnnAssign, module: Module) -> str:
    """A field with its type and default."""
    annotation = f": {ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
    return f"{name}{annotation}" + (f" = {default(node.value, module)}" if node.value else "")


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, module: Module) -> str:
    """Parameters and result as written, defaults by value."""
    given = node.args
    shown = ast.arguments(
        posonlyargs=given.posonlyargs,
        args=given.args,
        vararg=given.vararg,
        kwonlyargs=given.kwonlyargs,
        kw_defaults=[None if d is None else _constant(d, module) for d in given.kw_defaults],
        kwarg=given.kwarg,
        defaults=[_constant(d, module) for d in given.defaults],
    )
    return f"({ast.unparse(shown)})" + (f" -> {ast.unparse(node.returns)}" if node.returns else "")


def default(node: ast.expr, module: Module) -> str:
    """A default by value; the words that describe a setting may change freely."""
    if isinstance(node, ast.Call):
        kept = [k for k in node.keywords if k.arg != "description"]
        node = ast.Call(node.func, node.args, kept)
    return ast.unparse(_constant(node, module))


def _constant(node: ast.expr, module: Module) -> ast.expr:
    """The value of a constant of the module, because it is the value that users get."""
    return module.constants.get(node.id, node) if isinstance(node, ast.Name) else node


def difference(stored: list[str], found: list[str]) -> str:
    """What changed, line by line; empty if nothing did."""
    changed = difflib.unified_diff(stored, found, "stored", "found", lineterm="", n=0)
    return "\n".join(line for line in changed if not line.startswith("@@"))


def test_public_api(trees: Trees) -> None:
    changed = difference(STORED.read_text("utf-8").splitlines(), public_api(trees))
    assert not changed, f"the public API changed; {REGENERATE}\n{changed}"


def test_public_names_can_be_imported(trees: Trees) -> None:
    """Lazy ``__getattr__`` tables and ``__all__`` are written by hand; here each name is asked for."""
    for path, (module, name) in public_names(read_modules(trees)).items():
        package, _, attribute = path.rpartition(".")
        found = getattr(importlib.import_module(package), attribute)
        assert getattr(importlib.import_module(module.name), name) is found, path


SMALL = {
    "common/nearfar/errors.py": "class Bad(ValueError):\n    exit_code = 2\n\ndef _hidden(): ...",
    "common/nearfar/p/__init__.py": "from nearfar.p.a import A, f\n__all__ = ['A', 'f']",
    "common/nearfar/p/a.py": (
        "RATIO, OTHER = 0.5, 1\n"
        "class Base:\n    kept: int = Field(3, ge=0, description='Words.')\n"
        "class A(Base):\n"
        "    def __init__(self, x: int) -> None: ...\n"
        "    @property\n    def size(self) -> int: ...\n"
        "    def _private(self): ...\n"
        "def f(x: Tensor, *, ratio: float = RATIO) -> Tensor: ...\n"
        "def not_exported(): ..."
    ),
    "common/nearfar/i/__init__.py": "",
    "common/nearfar/i/b.py": "__all__ = ['KINDS', 'ROWS']\nKINDS = ('a', 'b')\nROWS = (f, g)\ndef f(): ...",
    "pipelines/nearfar/pipelines/__init__.py": "",
    "pipelines/nearfar/pipelines/train.py": "__all__ = ['train']\ndef train(name: str): ...\ndef warn(): ...",
    "pipelines/nearfar/pipelines/report.py": "def table(): ...",
    "domains/nearfar/z/__init__.py": "if TYPE_CHECKING:\n    from nearfar.p import A\n__all__ = ['A']",
}
SMALL_API = [
    "class nearfar.errors.Bad(ValueError)",
    "nearfar.errors.Bad.exit_code = 2",
    "nearfar.i.b.KINDS = ('a', 'b')",
    "nearfar.i.b.ROWS",
    "class nearfar.p.A(Base)",
    "nearfar.p.A.__init__(self, x: int) -> None",
    "nearfar.p.A.kept: int = Field(3, ge=0)",
    "nearfar.p.A.size(self) -> int @property",
    "nearfar.p.f(x: Tensor, *, ratio: float=0.5) -> Tensor",
    "nearfar.pipelines.train.train(name: str)",
    "nearfar.z.A is nearfar.p.A",
]


def small_api(parse: Callable[[Path], Trees], folder: Path, files: Mapping[str, str]) -> list[str]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return public_api(parse(folder))


def test_the_list_of_a_small_tree(parse: Callable[[Path], Trees], tmp_path: Path) -> None:
    assert small_api(parse, tmp_path, SMALL) == SMALL_API


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("x: int", "x: str", True),
        ("0.5", "0.6", True),
        ("ge=0", "ge=1", True),
        ("def size", "def length", True),
        ("__all__ = ['A', 'f']", "__all__ = ['f']", True),
        ("exit_code = 2", "exit_code = 3", True),
        ("'b')", "'c')", True),
        ("name: str", "name: str | None", True),
        ("Words.", "Better words.", False),
        ("_private(self)", "_private(self, x)", False),
        ("not_exported()", "not_exported(x)", False),
        ("table()", "table(x)", False),
    ],
)
def test_what_counts_as_a_change(
    old: str, new: str, changes: bool, parse: Callable[[Path], Trees], tmp_path: Path
) -> None:
    files = {name: text.replace(old, new) for name, text in SMALL.items()}
    assert files != SMALL
    found = small_api(parse, tmp_path / "new", files)
    assert bool(difference(small_api(parse, tmp_path / "old", SMALL), found)) == changes
