"""A trained model in a folder: ``model.safetensors`` for numbers, one JSON file for the rest, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nearfar import version
from nearfar.atomic import replace_file, write_atomically
from nearfar.errors import DataError, first_line

WEIGHTS = "model.safetensors"
# What a damaged description or file of weights comes to; RecursionError is that of very deep JSON.
_DAMAGE = (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError, SafetensorError)
# What a description comes to that is not that of the weights beside it.
UNFIT = (
    *(ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError),
    AssertionError,
)


@dataclass(frozen=True)
class SavedFormat:
    """How one kind of model lies in its folder.

    Attributes:
        what: Its name for people.
        description: Name of the JSON file.
        version: What is written.
        readable: What can be read.
        digested_from: First version whose description names the digest of the weights.
    """

    what: str
    description: str
    version: int = 1
    readable: tuple[int, ...] = (1,)
    digested_from: int = 1

    def write(self, folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Write both files into a new or empty folder, or over an earlier model of this kind.

        The description is written last and names the digest of the weights: a folder that was left half-way is refused
        by :meth:`read`.

        Args:
            folder: Where to; made when new.
            tensors: By name, each in the shape as it is to be read.
            description: What JSON can hold.

        Raises:
            DataError: If the folder holds something else.
        """
        folder.mkdir(parents=True, exist_ok=True)
        own = (WEIGHTS, self.description)
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in own)
        if strangers:
            raise DataError(f"{folder} is not empty ({', '.join(strangers[:3])}); choose a new folder")
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        head = {"format": self.version, "nearfar": version.get(), "weights": _digest(content)}
        text = json.dumps({**head, **description})
        replace_file(folder / WEIGHTS, lambda file: file.write(content))
        write_atomically(folder / self.description, text)

    def read(self, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What :meth:`write` was given.

        Args:
            folder: Written by it.

        Raises:
            DataError: If the folder is not such a model, is damaged, or of another format.
        """
        refusal = f"{folder} is not a saved {self.what}"
        try:
            description = json.loads((folder / self.description).read_text(encoding="utf-8"))
            found = description.get("format")
            if type(found) is not int or found not in self.readable:
                raise DataError(
                    f"{folder} has format {found}, this version reads {self.readable[0]} to {self.readable[-1]}"
                )
            content = (folder / WEIGHTS).read_bytes()
            if found >= self.digested_from and _digest(content) != description["weights"]:
                reason = f"{WEIGHTS} is damaged, or not the one that {self.description} describes"
                raise DataError(f"{refusal}: {reason}")
            return load(content), description
        except DataError:
            raise
        except _DAMAGE as error:
            raise DataError(f"{refusal}: {first_line(error)}; save it again") from None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
