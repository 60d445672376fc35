"""How the documentation is built: ``make docs``. Every warning is an error, and so is a reference to nothing.

The reference pages are written from the packages' ``__all__`` before each build, so that none can be forgotten.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.util.nodes import get_node_source

ABSENT = object()
HERE = Path(__file__).parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(REPOSITORY / root) for root in ("common", "domains", "pipelines")]

project = "nearfar"
author = "the nearfar authors"
# The mathematics is set by a MathJax that is part of the site: it reads without a network.
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx-mathjax-offline"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "nearfar"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["width.css"]
html_theme_options = {"navigation_with_keys": True}
nitpicky = True
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
# What people import; a package that is not here has no promise of staying as it is.
PACKAGES = {
    "The contrastive core": (
        "nearfar.objectives",
        "nearfar.objectives.positives",
        "nearfar.objectives.denominator",
        "nearfar.selectable",
    ),
    "Domains": (
        "nearfar.graph",
        "nearfar.timeseries",
        "nearfar.timeseries.tsai",
        "nearfar.recsys",
        "nearfar.recsys.recbole",
        "nearfar.calibration",
        "nearfar.longtail",
    ),
    "Data and encoders of yours": (
        "nearfar.adapters",
        "nearfar.encoders",
        "nearfar.augment.sequences",
        "nearfar.augment.series",
        "nearfar.augment.graphs",
        "nearfar.augment.images",
        "nearfar.classification",
        "nearfar.labels",
    ),
    "Parts": ("nearfar.cluster", "nearfar.neighbors", "nearfar.prototypes", "nearfar.sampling"),
    "Runs": (
        "nearfar.training",
        "nearfar.tracking",
        "nearfar.tuning",
        "nearfar.runtime",
        "nearfar.config",
        "nearfar.testing",
        "nearfar.errors",
    ),
}


def write_reference() -> None:
    """A page per package, and their table of contents."""
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    contents = ["# Reference", "", "Written from the docstrings, one page a package.", ""]
    written: dict[int, str] = {}
    for title, packages in PACKAGES.items():
        contents += ["```{toctree}", f":caption: {title}", ":maxdepth: 1", "", *packages, "```", ""]
        for package in packages:
            text = "\n".join(_page(package, importlib.import_module(package), written))
            _write_changed(folder / f"{package}.md", text)
    _write_changed(folder / "index.md", "\n".join(contents))


def _page(package: str, module: Any, written: dict[int, str]) -> Iterator[str]:
    yield f"# {package}\n\n```{{eval-rst}}\n.. automodule:: {package}\n   :no-members:\n"
    for name in module.__all__ if hasattr(module, "__all__") else _own(module):
        value = getattr(module, name)
        full = f"{package}.{name}"
        if (first := written.setdefault(id(value), full)) != full:
            yield f"``{name}`` is :py:obj:`{first}`.\n"
        elif isinstance(value, type):
            yield f".. autoclass:: {full}\n"
        elif callable(value):
            yield f".. autofunction:: {full}\n"
        else:
            yield f".. py:data:: {full}\n   :type: {type(value).__name__}\n"
    yield "```\n"


def _own(module: Any) -> Iterator[str]:
    """Public names that a module without ``__all__`` defines."""
    for name, value in vars(module).items():
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
            yield name


def _write_changed(path: Path, text: str) -> None:
    # An unchanged page is not built again.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def resolve(_app: Any, _env: Any, node: Any, content: Any) -> Any:
    """Show a reference that has no heading of its own as plain code, but only if there is such a thing.

    Docstrings name neighbours of their module and modules inside the packages; both exist, neither has a heading here.
    Names of other packages are not looked up.
    """
    if node.get("refdomain") != "py":
        return None
    target, reftype = node["reftarget"], node.get("reftype")
    # Sphinx gives an Annotated the module of the type inside it.
    in_a_signature = target.endswith(".Annotated") or (
        reftype in ("class", "obj", "data", "exc") and not target.startswith("nearfar")
    )
    if in_a_signature or any(exists(name) for name in _readings(target, _written_in(node), node)):
        return content
    return None


def _written_in(node: Any) -> str:
    """Module of the docstring that holds a node; empty for text of a page."""
    source = get_node_source(node) or ""
    name = source.rpartition("docstring of ")[2] if "docstring of " in source else ""
    while name and not isinstance(_find(name), ModuleType):
        name = name.rpartition(".")[0]
    return name


def _readings(target: str, written_in: str, node: Any) -> Iterator[str]:
    """What a name in a docstring may mean, as full names."""
    yield target
    for module in {written_in, node.get("py:module")} - {"", None}:
        yield f"{module}.{target}"
        around = node.get("py:class")
        while around:
            yield f"{module}.{around}.{target}"
            around = around.rpartition(".")[0]


def exists(name: str) -> bool:
    """Whether a dotted name leads to something."""
    return _find(name) is not ABSENT


def _find(name: str) -> Any:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except (ImportError, ValueError):
            continue
        for part in parts[length:]:
            declared = part in getattr(found, "__annotations__", {})
            found = getattr(found, part, found.__annotations__[part] if declared else ABSENT)
            if found is ABSENT:
                break
        return found
    return ABSENT


def setup(app: Any) -> None:
    """Called by Sphinx."""
    write_reference()
    app.connect("missing-reference", resolve)
