"""F01: interactions in CSV, TSV, Parquet, RecBole's atomic files and files of sequences."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("pandas")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.optional import installed
from nearfar.recsys.datasets import Dataset, load_dataset

pytestmark = pytest.mark.row("F01")
EVENTS = [(user, item, 10 * user + item) for user in range(6) for item in range(5)]
DATED = "2024-05-31T12:00:{:02d}"


def table(separator: str, header: str, dated: bool = False) -> bytes:
    """Events as text."""
    rows = [
        separator.join(
            (
                f"u{user}",
                f'"i, {item}"' if separator == "," else f"i{item}",
                DATED.format(time) if dated else str(time),
            )
        )
        for user, item, time in EVENTS
    ]
    return "\n".join([header, *rows, ""]).encode()


def check(found: Dataset | None) -> None:
    """What was read is whole."""
    if found is None:
        return
    data = found.interactions
    assert len(data.items) == data.offsets[-1]
    assert data.items.dtype == np.int64
    assert data.items.min() >= 1
    assert data.items.max() <= data.num_items
    assert (np.diff(data.offsets) > 0).all()
    assert len({str(item) for item in data.item_ids}) == data.num_items
    data.digest()


FILES = {
    "toy.csv": table(",", "user_id,item_id,timestamp"),
    "dated.csv": table(",", "user_id,item_id,timestamp", dated=True),
    "toy.tsv": table("\t", "user_id\titem_id\ttimestamp"),
    "toy.inter": table("\t", "user_id:token\titem_id:token\ttimestamp:float"),
    "toy.txt": "\n".join(f"u{user} i1 i2 i{user} i3" for user in range(8)).encode() + b"\n",
}


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_text(fuzz: Any, name: str, data: st.DataObject) -> None:
    """A table of text."""
    content = data.draw(fuzz.spoilt_bytes(FILES[name]))
    check(fuzz.read({name: content}, lambda folder: load_dataset(str(folder / name))))


@given(data=st.data())
def test_titles(fuzz: Any, data: st.DataObject) -> None:
    """The atomic file of titles beside the events."""
    titles = "item_id:token\tmovie_title:token_seq\trelease_year:token\n" + "".join(
        f"i{item}\tA Film\t19{item}0\n" for item in range(5)
    )
    files = {"toy.inter": FILES["toy.inter"], "toy.item": data.draw(fuzz.spoilt_bytes(titles.encode()))}
    check(fuzz.read(files, lambda folder: load_dataset(str(folder / "toy.inter"))))


def parquet(columns: dict[str, Any], **how: Any) -> bytes:
    """A Parquet file."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **how)
    return file.getvalue()


@pytest.mark.skipif(not installed("pyarrow"), reason="pyarrow is not installed")
@given(data=st.data())
def test_parquet_of_other_bytes(fuzz: Any, data: st.DataObject) -> None:
    """Bytes of the file."""
    users, items, times = (list(column) for column in zip(*EVENTS, strict=True))
    original = parquet({"user_id": users, "item_id": [f"i{item}" for item in items], "timestamp": times})
    content = data.draw(fuzz.spoilt_bytes(original))
    check(fuzz.read({"toy.parquet": content}, lambda folder: load_dataset(str(folder / "toy.parquet"))))


COLUMNS: dict[str, list[Any]] = {
    "whole": [1, 2, 3, 2**62, -5],
    "missing": [1, None, 3, 4, 5],
    "float": [1.0, 2.5, float("nan"), 1e300, -0.0],
    "text": ["a", "b ", "", "é", "a\0"],
    "bool": [True, False, True, True, False],
    "bytes": [b"a", b"\xff", b"", b"c", b"d"],
    "lists": [[1], [2, 3], [], [4], [5]],
    "structs": [{"a": 1}] * 5,
    "times": list(np.array([0, 1, 2, 3, 2**40], dtype="datetime64[s]")),
    "nulls": [None] * 5,
    "repeated": ["x"] * 5,
}


@pytest.mark.skipif(not installed("pyarrow"), reason="pyarrow is not installed")
@given(data=st.data())
def test_parquet_of_other_types(fuzz: Any, data: st.DataObject) -> None:
    """Columns of any type."""
    columns = {
        name: COLUMNS[data.draw(st.sampled_from(sorted(COLUMNS)))]
        for name in ("user_id", "item_id", "timestamp")
    }
    how = {
        "use_dictionary": data.draw(st.booleans()),
        "compression": data.draw(st.sampled_from(["none", "zstd"])),
    }

    def read(folder: Path) -> Dataset:
        return load_dataset(str(folder / "toy.parquet"))

    check(fuzz.read({"toy.parquet": parquet(columns, **how)}, read))
