"""A recommender in a folder: ``model.safetensors`` for numbers, ``recommender.json`` for the rest, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nearfar import version
from nearfar.atomic import replace_file, write_atomically
from nearfar.errors import DataError

FORMAT = 2
READABLE = (1, 2)  # 1 had text ids only, and no digest
WEIGHTS, DESCRIPTION = "model.safetensors", "recommender.json"


def write_folder(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write both files into a new or empty folder, or over an earlier recommender.

    The description is written last and names the digest of the weights: a folder that was left half-way is refused
    by :func:`read_folder`.

    Args:
        folder: Where to; made when new.
        tensors: By name, each in the shape as it is to be read.
        description: What JSON can hold.

    Raises:
        DataError: If the folder holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in (WEIGHTS, DESCRIPTION))
    if strangers:
        raise DataError(f"{folder} is not empty ({', '.join(strangers[:3])}); choose a new folder")
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    head = {"format": FORMAT, "nearfar": version.get(), "weights": _digest(content)}
    text = json.dumps({**head, **description})
    replace_file(folder / WEIGHTS, lambda file: file.write(content))
    write_atomically(folder / DESCRIPTION, text)


def read_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What :func:`write_folder` was given.

    Args:
        folder: Written by it.

    Raises:
        DataError: If the folder is not a saved recommender, is damaged, or of another format.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        found = description.get("format")
        if found not in READABLE:
            raise DataError(
                f"{folder} has format {found}, this version reads {READABLE[0]} to {READABLE[-1]}"
            )
        content = (folder / WEIGHTS).read_bytes()
        if found > 1 and _digest(content) != description["weights"]:
            reason = f"{WEIGHTS} is damaged, or not the one that {DESCRIPTION} describes"
            raise DataError(f"{folder} is not a saved recommender: {reason}")
        return load(content), description
    except DataError:
        raise
    except (OSError, ValueError, AttributeError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{folder} is not a saved recommender: {error}") from None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
