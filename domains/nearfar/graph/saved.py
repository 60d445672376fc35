"""A trained graph encoder in a folder: its format, and how it is read back."""

from __future__ import annotations

from pathlib import Path

import torch

from nearfar.allocation_limit import AllocationLimit
from nearfar.errors import DataError
from nearfar.graph.encoder import GCNEncoder
from nearfar.saved import UNFIT, SavedFormat

ENCODER = SavedFormat("graph encoder", "encoder.json")


def save_encoder(encoder: GCNEncoder, folder: Path) -> None:
    """Write weights (safetensors) and sizes (JSON) into a new or empty folder.

    Args:
        encoder: Trained.
        folder: Where to.

    Raises:
        DataError: If the folder holds something else.
    """
    ENCODER.write(folder, encoder.state_dict(), {"arguments": encoder.arguments})


def load_encoder(folder: Path | str) -> GCNEncoder:
    """Read what ``nearfar train graph.<method>`` left in ``model``.

    Args:
        folder: Written by :func:`save_encoder`.

    Raises:
        DataError: If it is not a saved encoder, or is damaged.
    """
    tensors, description = ENCODER.read(Path(folder))
    try:
        with AllocationLimit(tensors, ENCODER.description):
            encoder = GCNEncoder(**description["arguments"], generator=torch.Generator())
        encoder.load_state_dict(tensors)
        if not 0 <= encoder.arguments["negative_slope"] <= 1:
            raise DataError(f"negative_slope is {encoder.arguments['negative_slope']}")
    except UNFIT as error:
        raise DataError(f"{folder} is not a saved graph encoder: {error}; save it again") from None
    return encoder.eval()
