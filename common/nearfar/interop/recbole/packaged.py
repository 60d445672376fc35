"""The data set inside RecBole's wheel."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nearfar.errors import DataError
from nearfar.optional import installed, missing


def packaged_dataset(name: str = "ml-100k") -> Path:
    """Folder of a data set that RecBole's wheel ships, found without importing RecBole.

    Args:
        name: Name of the data set, which is also the stem of the files in its folder.

    Returns:
        The folder, holding ``<name>.inter`` and whatever else the wheel ships for it.

    Raises:
        MissingDependencyError: If RecBole is not installed.
        DataError: If the installed wheel ships no data set of that name.

    Example:
        >>> packaged_dataset("ml-100k").name if installed("recbole") else "ml-100k"
        'ml-100k'
    """
    spec = importlib.util.find_spec("recbole") if installed("recbole") else None
    if spec is None or not spec.submodule_search_locations:
        raise missing("recbole", f"the packaged data set {name!r}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "dataset_example"
    available = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if name not in available:
        known = ", ".join(available) or "none"
        raise DataError(f"RecBole ships no data set named {name!r}; available: {known}")
    return folder / name
