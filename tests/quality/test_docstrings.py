"""Docstrings in the form of styles.md 3.2, and their examples run.

A public object says what it means in a short first line; an ``Args:`` section names the parameters there
are, a ``Raises:`` section the errors raised, and every tensor has a shape. Nested functions, names with
an underscore and bodies of ``...`` are nobody's interface.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

LONGEST_SUMMARY = 110
# Tensors of any shape at all: nothing to say about them.
ANY_SHAPE = {
    "common/nearfar/runtime/distributed.py:Runtime.average_gradients",
    "common/nearfar/runtime/distributed.py:Runtime.broadcast",
}
# MLflow executes this one; importing it needs mlflow.
NO_DOCTEST = {"domains/nearfar/recsys/serving_model.py"}

# A tuple such as (N, d), (..., d) or (N,), or words that say the same.
SHAPE = re.compile(
    r"\((\.\.\.|[A-Z]\w*|[a-z]|\d+),[^()]*\)|``\([^()]+,[^()]*\)``"
    r"|\bscalars?\b|\bsame shape\b|\bshape (of|as)\b|\bas :(func|meth|class):"
)
ENTRY = re.compile(r" {4}(\*{0,2}\w+)(?: \([^)]*\))?:")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Trees = Mapping[str, ast.Module]


@dataclass(frozen=True)
class Documented:
    """One public object.

    Attributes:
        place: ``path:Class.method``.
        node: Its definition.
        text: Its docstring, cleaned; empty if there is none.
        owner: The class of a method.
    """

    place: str
    node: ast.Module | ast.ClassDef | Function
    text: str
    owner: ast.ClassDef | None = None

    def section(self, title: str) -> dict[str, str] | None:
        """Entries of a section by name, ``None`` without that section."""
        lines = self.text.splitlines()
        if f"{title}:" not in lines:
            return None
        entries: dict[str, str] = {}
        name = ""
        for line in lines[lines.index(f"{title}:") + 1 :]:
            if line and not line.startswith(" "):
                break
            if entry := ENTRY.match(line):
                name = entry[1].lstrip("*")
            if name:
                entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
        return entries


def documented(trees: Trees) -> list[Documented]:
    """Modules, and the public functions, classes and methods in them."""
    return [entry for path, tree in trees.items() for entry in _inside(path, tree)]


def _inside(path: str, tree: ast.Module) -> Iterator[Documented]:
    yield Documented(path, tree, _text(tree))
    for node in _definitions(tree):
        yield Documented(f"{path}:{node.name}", node, _text(node))
        if isinstance(node, ast.ClassDef):
            for part in _definitions(node):
                yield Documented(f"{path}:{node.name}.{part.name}", part, _text(part), node)


def _definitions(around: ast.Module | ast.ClassDef) -> Iterator[ast.ClassDef | Function]:
    for node in around.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and _is_public(node):
            yield node


def _is_public(node: ast.ClassDef | Function) -> bool:
    # A body of `...` implements something that is documented elsewhere, or is an overload.
    return not node.name.startswith("_") and [ast.unparse(part) for part in node.body] != ["..."]


def _text(node: ast.Module | ast.ClassDef | Function) -> str:
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


def parameters(node: Function) -> dict[str, str]:
    """Names and annotations, without ``self`` and ``cls``."""
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    named = {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in every if a is not None}
    return {name: annotation for name, annotation in named.items() if name not in ("self", "cls")}


def summaries(entries: list[Documented]) -> Iterator[str]:
    """Everything public has a first line, and a short one."""
    for entry in entries:
        first = entry.text.partition("\n")[0]
        if not first:
            yield f"{entry.place} has no docstring"
        elif len(first) > LONGEST_SUMMARY:
            yield f"{entry.place}: first line of {len(first)} characters, at most {LONGEST_SUMMARY}"


def arguments(entries: list[Documented]) -> Iterator[str]:
    """``Args:`` names the parameters, all of them, in order."""
    for entry in entries:
        named = entry.section("Args")
        expected = _expected(entry)
        if named is not None and expected is not None and list(named) != expected:
            yield f"{entry.place}: Args names {list(named)}, the signature has {expected}"


def _expected(entry: Documented) -> list[str] | None:
    """Parameters of a function, or of calling a class; ``None`` where a base class decides."""
    if isinstance(entry.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return list(parameters(entry.node))
    if isinstance(entry.node, ast.ClassDef):
        for part in entry.node.body:
            if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                return list(parameters(part))
        if any("dataclass" in ast.unparse(decorator) for decorator in entry.node.decorator_list):
            return list(_fields(entry.node))
    return None


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield part.target.id


def attributes(entries: list[Documented]) -> Iterator[str]:
    """``Attributes:`` names no field that is not there."""
    for entry in entries:
        named = entry.section("Attributes")
        if named and isinstance(entry.node, ast.ClassDef):
            unknown = [name for name in named if name not in _attribute_names(entry.node)]
            if unknown:
                yield f"{entry.place}: Attributes names {unknown}, which the class does not have"


def _attribute_names(node: ast.ClassDef) -> set[str]:
    assigned = {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and ast.unparse(part.value) == "self"
    }
    methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    return assigned | methods | set(_fields(node))


def raises(entries: list[Documented]) -> Iterator[str]:
    """``Raises:`` is never skipped where a function raises by itself, and names what it raises."""
    for entry in entries:
        if isinstance(entry.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            told = entry.section("Raises") or {}
            untold = sorted(set(_raised(entry.node)) - set(told))
            if untold:
                yield f"{entry.place} raises {', '.join(untold)}, which no Raises section names"


def _raised(node: ast.AST) -> Iterator[str]:
    """Errors a function constructs and raises; ``NotImplementedError`` is for developers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            name = ast.unparse(child.exc.func)
            if name[:1].isupper() and name != "NotImplementedError":
                yield name
        yield from _raised(child)


def shapes(entries: list[Documented]) -> Iterator[str]:
    """Every tensor that goes in has a shape, in its ``Args`` entry or else anywhere in the docstring."""
    for entry in entries:
        if entry.place in ANY_SHAPE or not isinstance(entry.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        told = entry.section("Args") or {}
        for name, annotation in parameters(entry.node).items():
            around = _text(entry.owner) if entry.owner is not None else ""
            words = told.get(name) or f"{entry.text}\n{around}"
            if _takes_tensor(annotation) and not SHAPE.search(words):
                yield f"{entry.place}: no shape for the tensor {name}"


def _takes_tensor(annotation: str) -> bool:
    # A callback that takes tensors is not one itself.
    return bool(re.search(r"\bTensor\b", annotation)) and "Callable[" not in annotation


Check = Callable[[list[Documented]], Iterator[str]]
CHECKS: tuple[Check, ...] = (summaries, arguments, attributes, raises, shapes)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_sources(check: Check, trees: Trees) -> None:
    found = list(check(documented(trees)))
    assert not found, "\n".join(found)


def test_every_exception_is_still_needed(trees: Trees) -> None:
    assert {entry.place for entry in documented(trees)} >= ANY_SHAPE
    assert set(trees) >= NO_DOCTEST


def modules_with_examples() -> list[str]:
    """Import names of the sources that contain a doctest."""
    repository = Path(__file__).parents[2]
    found = []
    for root in ("common", "domains", "pipelines"):
        for path in sorted((repository / root).rglob("*.py")):
            relative = path.relative_to(repository).as_posix()
            if relative not in NO_DOCTEST and ">>> " in path.read_text("utf-8"):
                parts = PurePosixPath(relative).with_suffix("").parts[1:]
                found.append(".".join(parts).removesuffix(".__init__"))
    return found


def run_examples(module: object) -> tuple[doctest.TestResults, str]:
    """Run the doctests of a module; the report says what was expected and what came."""
    report: list[str] = []
    runner = doctest.DocTestRunner()
    results = [runner.run(test, out=report.append) for test in doctest.DocTestFinder().find(module)]
    failed, attempted = sum(r.failed for r in results), sum(r.attempted for r in results)
    return doctest.TestResults(failed, attempted), "".join(report)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    result, report = run_examples(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0, report


def test_a_wrong_example_is_found() -> None:
    def right() -> None:
        """Sum.

        >>> 1 + 1
        2
        """

    def wrong() -> None:
        """Sum.

        >>> 1 + 1
        3
        """

    assert run_examples(right)[0] == doctest.TestResults(0, 1)
    assert run_examples(wrong)[0].failed == 1


PLANTED: list[tuple[Check, str, str]] = [
    (summaries, "x = 1", "a.py has no docstring"),
    (summaries, '"""M."""\ndef f(): pass', "a.py:f has no docstring"),
    (summaries, '"""M."""\nclass A:\n    x = 1', "a.py:A has no docstring"),
    (summaries, '"""M."""\nclass A:\n    """C."""\n    def f(self): pass', "a.py:A.f has no docstring"),
    (summaries, f'"""{"m" * 111}"""', "111 characters"),
    (arguments, 'def f(a, b):\n    """F.\n\n    Args:\n        a: One.\n    """', "['a', 'b']"),
    (arguments, 'def f(a):\n    """F.\n\n    Args:\n        a: One.\n        b: Two.\n    """', "['a', 'b']"),
    (arguments, 'def f(*, b):\n    """F.\n\n    Args:\n        c: One.\n    """', "['b']"),
    (
        arguments,
        'class A:\n    """C.\n\n    Args:\n        x: One.\n    """\n    def __init__(self, y): pass',
        "['y']",
    ),
    (
        arguments,
        '@dataclass\nclass A:\n    """C.\n\n    Args:\n        x: One.\n    """\n    y: int',
        "['y']",
    ),
    (attributes, 'class A:\n    """C.\n\n    Attributes:\n        x: One.\n    """\n    y: int', "['x']"),
    (raises, 'def f():\n    """F."""\n    if x:\n        raise ValueError("x")', "ValueError"),
    (
        raises,
        'def f():\n    """F.\n\n    Raises:\n        OSError: If.\n    """\n    raise KeyError(1)',
        "KeyError",
    ),
    (shapes, 'def f(x: Tensor):\n    """F."""', "tensor x"),
    (shapes, 'def f(x: torch.Tensor | None = None):\n    """F (say, once)."""', "tensor x"),
    (shapes, 'def f(x: Tensor):\n    """F ``(N, D)``.\n\n    Args:\n        x: One.\n    """', "tensor x"),
]


@pytest.mark.parametrize(("check", "text", "message"), PLANTED)
def test_planted_violations_are_found(check: Check, text: str, message: str) -> None:
    assert message in "\n".join(check(documented({"a.py": ast.parse(text)})))


SOUND = '''
"""Module."""

def f(x: Tensor, y: Tensor, /, *rest: int, flag: bool = False, **more: int) -> Tensor:
    """Meaning.

    Args:
        x: First, shape ``(N, D)``;
            words: that go on.
        y: Second, same shape as ``x``.
        *rest: Others.
        flag: Whether.
        **more: More.

    Returns:
        One: thing.

    Raises:
        ValueError: If not.
    """
    def nested(z): raise TypeError("z")
    raise ValueError("x")

def g(x: Tensor, send: Callable[[Tensor], None], seed: int) -> Tensor:
    """States ``(..., d)`` of ``x``."""
    try:
        pass
    except OSError:
        raise

def _private(x: Tensor): raise ValueError(x)

class A:
    """Meaning.

    Args:
        x: A number.

    Attributes:
        y: Another.
        size: A third.
    """
    def __init__(self, x): self.y = x

    @property
    def size(self):
        """Size."""
        raise NotImplementedError("abstract")

    def stub(self, x: Tensor) -> None: ...

@dataclass
class B:
    """Meaning.

    Args:
        x: One.
    """
    x: int
'''


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_false_alarm(check: Check) -> None:
    assert list(check(documented({"a.py": ast.parse(SOUND)}))) == []
