"""What several of these tests read files through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.optional import installed


@pytest.fixture(scope="session")
def load_as_recbole() -> Callable[..., Any]:
    """``torch.load`` of a path as RecBole's own code calls it, inside the session's scope."""
    if not installed("recbole"):
        pytest.skip("RecBole is not installed")
    from nearfar.interop.recbole import compat

    def load(path: Path, **how: Any) -> Any:
        scope = {"__name__": "recbole.trainer.trainer", "path": path, "torch": torch}
        with compat(**how):
            exec("found = torch.load(path)", scope)
        return scope["found"]

    return load
