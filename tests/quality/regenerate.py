"""Write ``public_api.txt`` and ``cli.txt`` anew: ``python tests/quality/regenerate.py``.

Read the difference before committing it: every removed or changed line breaks somebody's code.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]


def load(name: str) -> ModuleType:
    """A file of this folder as a module; the folder is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Write both lists."""
    # As pytest has them, so that this runs before any install.
    sys.path[:0] = [str(REPOSITORY / root) for root in ("common", "domains", "pipelines")]
    api, cli = load("test_public_api"), load("test_cli_frozen")
    trees = load("conftest").parse_roots(REPOSITORY)
    for path, lines in ((api.STORED, api.public_api(trees)), (cli.STORED, cli.cli_surface())):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(REPOSITORY)}: {len(lines)} lines\n")


if __name__ == "__main__":
    main()
