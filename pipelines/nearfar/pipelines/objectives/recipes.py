"""What a search has found for every objective, one file a domain, replayed by ``make objectives``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nearfar.atomic import write_atomically
from nearfar.config import flatten, yaml12
from nearfar.errors import ConfigError
from nearfar.tuning.space import setting

FOLDER = Path(__file__).with_name("found")


def read(domain: str, folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Settings by row, dotted; empty where nothing was searched.

    Args:
        domain: Of an arena.
        folder: Where the files are.

    Raises:
        ConfigError: If the file is no such table.
    """
    path = folder / f"{domain}.yaml"
    if not path.exists():
        return {}
    content = yaml12.load(path)
    if not all(isinstance(found, Mapping) for found in content.values()):
        raise ConfigError(f"{path}: settings for every objective expected")
    return {row: flatten(found) for row, found in content.items()}


def write(domain: str, found: Mapping[str, Mapping[str, Any]], folder: Path = FOLDER) -> None:
    """Replace the file of a domain.

    Args:
        domain: Of an arena.
        found: Settings by row, dotted.
        folder: Where the files are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {row: dict(settings) for row, settings in found.items()}
    write_atomically(folder / f"{domain}.yaml", yaml.safe_dump(content, sort_keys=False))


def words(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as they are given to a run.

    Example:
        >>> words({"optim.lr": 0.001})
        ('optim.lr=0.001',)
    """
    return tuple(setting(key, value) for key, value in found.items())
