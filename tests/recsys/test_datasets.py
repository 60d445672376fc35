"""Reading atomic files: the packaged MovieLens data, files of one's own, and files that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.errors import DataError
from nearfar.optional import installed
from nearfar.recsys import leave_one_out, load_dataset
from nearfar.recsys.atomic import read_interactions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "recbole"


@pytest.mark.interop
@pytest.mark.skipif(
    not installed("recbole"), reason="ml-100k is part of RecBole's wheel, which is not installed"
)
def test_packaged_movielens() -> None:
    dataset = load_dataset("ml-100k")
    data = dataset.interactions
    assert (data.num_users, data.num_items, len(data.items)) == (943, 1682, 100_000)
    assert dataset.titles["50"] == "Star Wars (1977)"
    split = leave_one_out(data)
    assert len(split.users) == 943
    assert int(split.train_ends.sum() - data.offsets[:-1].sum()) == 98_114
    # The first user's last ten ratings by integer time, file order among equals.
    path = Path(dataset.source)
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    own = sorted((int(r[3]), n, r[1]) for n, r in enumerate(rows) if r[0] == "196")
    index = data.user_ids.index("196")
    assert [data.item_ids[i - 1] for i in data.sequence(index)] == [item for _, _, item in own]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark data are not beside this checkout")
def test_amazon_beauty() -> None:
    data = load_dataset("amazon-beauty", SHARED).interactions
    assert (data.num_users, data.num_items, len(data.items)) == (22_363, 12_101, 198_502)
    assert int(np.median(data.lengths)) == 6
    split = leave_one_out(data)
    assert int((split.train_ends - data.offsets[:-1] - 1).sum()) == 131_413


@pytest.mark.parametrize("how", ["file", "folder", "name", "nested name"])
def test_ways_to_name_a_file(toy_file: Path, how: str) -> None:
    if how == "file":
        dataset = load_dataset(str(toy_file))
    elif how == "folder":
        dataset = load_dataset(str(toy_file.parent))
    elif how == "name":
        dataset = load_dataset("toy", toy_file.parent)
    else:
        nested = toy_file.parent / "toy"
        nested.mkdir()
        toy_file.rename(nested / "toy.inter")
        dataset = load_dataset("toy", toy_file.parent)
    assert dataset.name == "toy"
    assert dataset.interactions.num_users == 40
    assert dataset.titles == {}


def test_titles(toy_file: Path) -> None:
    toy_file.with_suffix(".item").write_text(
        'item_id:token\tmovie_title:token_seq\trelease_year:token\ni1\tSo "What"\t1999\ni2\tNo Year\t\n',
        encoding="utf-8",
    )
    assert load_dataset(str(toy_file)).titles == {"i1": 'So "What" (1999)', "i2": "No Year"}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("is empty", ""),
        ("no interactions", "user_id:token\titem_id:token\ttimestamp:float\n"),
        ("no column 'timestamp'", "user_id:token\titem_id:token\nu\ti\n"),
        ("line 3 has no timestamp", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\nu\tj\n"),
        ("line 2 has no item_id", "user_id:token\titem_id:token\ttimestamp:float\nu\t\t1\n"),
        ("line 2: timestamp is 'soon'", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\tsoon\n"),
        ("line 2: timestamp is '1.5'", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1.5\n"),
        ("line 2: timestamp is 'nan'", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\tnan\n"),
        ("negative", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t-4\n"),
        (
            "does not fit|whole number",
            "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t99999999999999999999\n",
        ),
        ("is not a table", "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t1\t2\t3\nu\ti\t1\n"),
    ],
)
def test_broken_files_are_refused_by_line(tmp_path: Path, message: str, content: str) -> None:
    path = tmp_path / "bad.inter"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_interactions(path)


def test_binary_missing_and_ambiguous_files(tmp_path: Path) -> None:
    (tmp_path / "binary.inter").write_bytes(
        b"user_id:token\titem_id:token\ttimestamp:float\n\xff\xfe\t1\t2\n"
    )
    with pytest.raises(DataError, match="not UTF-8"):
        read_interactions(tmp_path / "binary.inter")
    with pytest.raises(DataError, match="does not exist"):
        read_interactions(tmp_path / "absent.inter")
    (tmp_path / "second.inter").touch()
    with pytest.raises(DataError, match="holds 2 .inter files"):
        load_dataset(".", tmp_path)
    with pytest.raises(DataError, match="no data set 'ml-1m'.*known names: ml-100k"):
        load_dataset("ml-1m")


def test_a_truncated_known_file_is_refused(tmp_path: Path, toy_file: Path) -> None:
    truncated = tmp_path / "ml-100k.inter"
    truncated.write_text(toy_file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="ml-100k has 100000.*truncated"):
        load_dataset(str(truncated))
