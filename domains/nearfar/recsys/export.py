"""A trained encoder as graphs that run without nearfar: ``torch.export`` programs or ONNX models.

Two graphs share their inputs, ``items (B, L)`` and ``last (B,)``, both int64 and both dynamic: ``scores`` gives the
score of every item ``(B, V)``; ``vectors`` gives the user vectors ``(B, d)`` for an index of the item vectors.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nearfar import version
from nearfar.errors import ConfigError
from nearfar.optional import require
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.vocabulary import ids_to_json

GraphFormat = Literal["torch", "onnx"]
Output = Literal["scores", "vectors"]
OUTPUTS: tuple[Output, ...] = ("scores", "vectors")
FORMAT = 1
_SUFFIX: dict[GraphFormat, str] = {"torch": "pt2", "onnx": "onnx"}
# An ONNX file holds at most 2 GiB; larger weights lie in a file beside it.
_LARGEST_ONNX = 2**30


class UserGraph(nn.Module):
    """What is traced: the newest items of some users to the scores of all items, or to user vectors.

    Args:
        encoder: Trained.
        output: Which of the two.
    """

    def __init__(self, encoder: SASRecEncoder, output: Output) -> None:
        super().__init__()
        self.encoder, self.output = encoder, output

    def forward(self, items: Tensor, last: Tensor) -> Tensor:
        """Scores or vectors.

        Args:
            items: Item indices, oldest first, left-aligned, 0 = padding, int64 ``(B, L)`` with ``L`` from 1 to
                ``max_length``.
            last: Position of the newest item, int64 ``(B,)``.

        Returns:
            ``(B, V)``, column ``i - 1`` for item ``i``; or ``(B, d)``.
        """
        states = self.encoder.last(items, last + 1)
        return self.encoder.logits(states) if self.output == "scores" else states


def trace(encoder: SASRecEncoder, output: Output = "scores") -> ExportedProgram:
    """The encoder as a program of tensor operations, for any number of users and any length up to its longest.

    Args:
        encoder: Trained. The program is for the device it is on.
        output: ``scores`` of all items, or user ``vectors``.

    Returns:
        The program; ``.module()`` runs it, ``torch.export.save`` stores it.
    """
    device = encoder.item.weight.device
    length = min(3, encoder.max_length)
    items = torch.ones(2, length, dtype=torch.int64, device=device)
    last = torch.full((2,), length - 1, device=device)
    users, positions = Dim("users", min=1), Dim("positions", min=1, max=encoder.max_length)
    # A copy, so that nothing of the caller's changes; frozen, so that who runs it need not say no_grad.
    frozen = copy.deepcopy(encoder).eval().requires_grad_(False)
    return torch.export.export(
        UserGraph(frozen, output),
        (items, last),
        dynamic_shapes={"items": {0: users, 1: positions}, "last": {0: users}},
    )


def export_graphs(recommender: Any, folder: Path | str, kind: GraphFormat = "torch") -> Path:
    """Write both graphs, the item vectors and the vocabulary into a folder.

    ``scores.pt2`` and ``vectors.pt2`` are read by ``torch.export.load``, ``scores.onnx`` and ``vectors.onnx`` by any
    ONNX runtime; ``item_vectors.safetensors`` holds ``item_vectors (V, d)``, row ``i - 1`` for item ``i``;
    ``graphs.json`` says which raw id each item index stands for.

    Args:
        recommender: A :class:`nearfar.recsys.Recommender` with an encoder.
        folder: New or empty; it appears complete or not at all.
        kind: ``torch`` or ``onnx``.

    Returns:
        The folder.

    Raises:
        ConfigError: If the folder holds something, the kind is unknown, or the model has no encoder.
        MissingDependencyError: If ONNX is asked for and not installed.
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    if kind not in _SUFFIX:
        raise ConfigError(f"kind: {' or '.join(_SUFFIX)} expected, got '{kind}'")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"folder: {folder} is not empty; name a new folder")
    encoder = recommender.scorer
    if not isinstance(encoder, SASRecEncoder):
        raise ConfigError(
            f"kind: a model of type {type(encoder).__name__} has no graph; export it as safetensors"
        )
    if kind == "onnx":
        require("onnx", "writing ONNX models")
        require("onnxscript", "writing ONNX models")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        # One below, since the temporary folder itself is private to this user.
        work = Path(temporary) / folder.name
        work.mkdir()
        for output in OUTPUTS:
            _write(trace(encoder, output), work / f"{output}.{_SUFFIX[kind]}", output)
        vectors = encoder.item.weight.detach()[1:].cpu().contiguous()
        save_file({"item_vectors": vectors}, work / "item_vectors.safetensors")
        description = {
            "format": FORMAT,
            "nearfar": version.get(),
            "torch": str(torch.__version__),
            "graphs": {output: f"{output}.{_SUFFIX[kind]}" for output in OUTPUTS},
            "inputs": {
                "items": "int64 (B, L): item indices from 1, oldest first, left-aligned, 0 = padding",
                "last": "int64 (B,): position of the newest item",
            },
            "max_length": encoder.max_length,
            "item_ids": ids_to_json(recommender.data.item_ids, "item"),
        }
        text = json.dumps(description, ensure_ascii=False, indent=1)
        (work / "graphs.json").write_text(text, encoding="utf-8")
        os.replace(work, folder)
    return folder


def _write(program: ExportedProgram, path: Path, output: Output) -> None:
    if path.suffix == ".pt2":
        torch.export.save(program, path)
        return
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    with _quiet():
        torch.onnx.export(
            program,
            f=path,
            dynamo=True,
            input_names=["items", "last"],
            output_names=[output],
            external_data=size > _LARGEST_ONNX,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a warning for each package of vision operators that is not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
