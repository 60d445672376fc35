"""What RecBole does with pandas, and columns of its Interaction: rows 3 to 6, 8 and 9."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearfar.interop.recbole.patching import called_by_recbole, patched, recbole_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@contextmanager
def empty_sequences() -> Iterator[None]:
    """Row 3: ``'float' object has no attribute 'split'`` for empty cells of token_seq or float_seq.

    ``frame[field].fillna("", inplace=True)`` fills a temporary under copy-on-write; the cells are
    filled as the file is read instead.
    """
    import pandas

    dataset = recbole_module("data.dataset.dataset").Dataset
    original, read_csv = dataset._load_feat, pandas.read_csv

    def read_filled(*args: Any, **kwargs: Any) -> Any:
        frame = read_csv(*args, **kwargs)
        for column in frame.columns:
            # RecBole's headers are "name:type"; the type decides whether the cell is split later.
            if column.endswith((":token_seq", ":float_seq")):
                frame[column] = frame[column].fillna("")
        return frame

    def load_feat(self: Any, filepath: str, source: Any) -> Any:
        with patched(pandas, "read_csv", read_filled):
            return original(self, filepath, source)

    with patched(dataset, "_load_feat", load_feat):
        yield


@contextmanager
def missing_values() -> Iterator[None]:
    """Row 4: NaN survives in token and float features, and a NaN token becomes id -2**63.

    The same no-op on a temporary as row 3. Users and items without features get NaN when the feature
    table is merged, after the ids were assigned, so token columns need the fill as much as floats do.
    """
    dataset = recbole_module("data.dataset.dataset").Dataset
    original = dataset._fill_nan

    def fill_nan(self: Any) -> None:
        for name in self.feat_name_list:
            frame = getattr(self, name)
            for field in frame:
                kind = self.field2type[field].value
                if kind == "token":
                    frame[field] = frame[field].fillna(0)
                elif kind == "float":
                    frame[field] = frame[field].fillna(frame[field].mean())
        original(self)

    with patched(dataset, "_fill_nan", fill_nan):
        yield


@contextmanager
def sequence_lengths() -> Iterator[None]:
    """Row 5: ``Length of values (1) does not match length of index`` or wrong splits of seq fields.

    ``series.agg(len)`` gives the number of rows in pandas 3, where RecBole expects one length per row.
    Only ``agg(len)`` called from RecBole's modules is changed.
    """
    import pandas

    series: Any = pandas.Series
    original = series.agg

    def agg(self: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
        if func is len and called_by_recbole():
            return self.map(len)
        return original(self, func, *args, **kwargs)

    with patched(series, "agg", agg):
        yield


@contextmanager
def quiet_pandas() -> Iterator[None]:
    """Row 6: one Pandas4Warning per ``inplace=True``, and ChainedAssignmentError from rows 3 and 4.

    The deprecated keyword works up to pandas 3; pandas 4 needs a repair instead of silence.
    """
    import pandas.errors

    with warnings.catch_warnings():
        for name in ("Pandas4Warning", "ChainedAssignmentError"):
            category = getattr(pandas.errors, name, None)
            if category is not None:
                warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
        yield


@dataclass(frozen=True)
class _Column:
    values: NDArray[Any]


@contextmanager
def writable_columns() -> Iterator[None]:
    """Row 8: ``the given NumPy array is not writable`` when a frame becomes an Interaction.

    The tensors share memory with the frame, which pandas marks read-only: writing to them would be
    undefined. They get their own copy.
    """
    dataset = recbole_module("data.dataset.dataset").Dataset
    original = dataset._dataframe_to_interaction

    def to_interaction(self: Any, data: Any) -> Any:
        return original(self, {name: _Column(np.array(data[name].values)) for name in data})

    with patched(dataset, "_dataframe_to_interaction", to_interaction):
        yield


@contextmanager
def descending_sort() -> Iterator[None]:
    """Row 9: ``At least one stride is negative`` from ``Interaction.sort(ascending=False)``.

    Sorting in torch also ends the ``__array_wrap__`` DeprecationWarning of ``numpy.argsort`` on a
    tensor. A descending sort is the stable ascending one reversed, ties included, as written there.
    """
    import torch

    interaction = recbole_module("data.interaction").Interaction
    original = interaction.sort

    def sort(self: Any, by: Any, ascending: Any = True) -> None:
        keys = [by] if isinstance(by, str) else by
        flags = [ascending] if isinstance(ascending, bool) else ascending
        if not _sortable(self, keys, flags):
            original(self, by, ascending)  # raises, with RecBole's own message
            return
        flags = list(flags) * (len(keys) if len(flags) == 1 else 1)
        for key, upwards in reversed(list(zip(keys, flags, strict=True))):
            column = self.interaction[key]
            index = torch.argsort(column if column.ndim == 1 else column[..., 0], stable=True)
            self._reindex(index if upwards else index.flip(0))

    with patched(interaction, "sort", sort):
        yield


def _sortable(interaction: Any, keys: Any, flags: Any) -> bool:
    return (
        isinstance(keys, (list, tuple))
        and isinstance(flags, (list, tuple))
        and all(key in interaction.interaction for key in keys)
        and all(isinstance(flag, bool) for flag in flags)
        and len(flags) in (1, len(keys))
    )
