"""Settings per method and data set, as ``<method>/<data set>.yaml``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from nearfar.config import Layer
from nearfar.config.yaml12 import loads


def recipe_layer(method: str, data: str) -> Layer | None:
    """The recipe shipped for this method on this data set (a name or a path), if there is one."""
    recipe = files(__name__) / method / f"{Path(data).stem}.yaml"
    if not recipe.is_file():
        return None
    source = f"recipe {method}/{recipe.name}"
    return Layer(source, loads(recipe.read_text(encoding="utf-8"), source) or {})
