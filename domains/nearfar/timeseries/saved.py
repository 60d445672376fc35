"""A trained encoder of series in a folder: its format, and how it is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nearfar.allocation_limit import AllocationLimit
from nearfar.errors import DataError
from nearfar.runtime import initial_weights
from nearfar.saved import UNFIT, SavedFormat
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder

ENCODER = SavedFormat("time series encoder", "encoder.json")


def save_encoder(encoder: Any, folder: Path) -> None:
    """Write weights (safetensors) and sizes (JSON) into a new or empty folder.

    Args:
        encoder: Trained.
        folder: Where to.

    Raises:
        DataError: If the folder holds something else.
    """
    ENCODER.write(folder, encoder.state_dict(), {"arguments": encoder.arguments})


def load_encoder(folder: Path | str) -> SeriesEncoder:
    """Read what ``nearfar train timeseries.<method>`` left in ``model``.

    Args:
        folder: Written by :func:`save_encoder`.

    Raises:
        DataError: If it is not a saved encoder, or is damaged.
    """
    tensors, description = ENCODER.read(Path(folder))
    try:
        with initial_weights(0), AllocationLimit(tensors, ENCODER.description):
            encoder = SeriesEncoder(**description["arguments"])
        encoder.load_state_dict(tensors)
    except UNFIT as error:
        raise DataError(f"{folder} is not a saved time series encoder: {error}; save it again") from None
    return encoder.eval()
