"""Reading atomic files: the packaged MovieLens data, files of one's own, and files that are broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.errors import ConfigError, DataError
from nearfar.optional import installed
from nearfar.recsys import (
    Interactions,
    Popularity,
    PopularityConfig,
    RecsysTask,
    leave_one_out,
    load_dataset,
)
from nearfar.recsys.atomic import read_interactions
from nearfar.recsys.config import ColumnsConfig
from nearfar.recsys.datasets import KNOWN_FILES
from nearfar.recsys.sequences_file import read_sequences
from nearfar.recsys.tables import read_csv, read_parquet

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
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no file that ends in .inter, .txt"):
        load_dataset("none", tmp_path)
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(DataError, match="table.xlsx: files that end in .inter"):
        load_dataset("table.xlsx", tmp_path)
    with pytest.raises(DataError, match="no data set 'ml-1m'.*known names: ml-100k"):
        load_dataset("ml-1m")


def test_a_truncated_known_file_is_refused(tmp_path: Path, toy_file: Path) -> None:
    truncated = tmp_path / "ml-100k.inter"
    truncated.write_text(toy_file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match="ml-100k has 100000.*truncated"):
        load_dataset(str(truncated))


def as_lines(data: Interactions) -> str:
    """A sequence file of some interactions."""
    lines = [
        " ".join([str(raw), *(str(data.item_ids[i - 1]) for i in data.sequence(user))])
        for user, raw in enumerate(data.user_ids)
    ]
    return "\n".join(lines) + "\n"


def test_every_format_gives_the_same(tmp_path: Path, toy_file: Path) -> None:
    reference = load_dataset(str(toy_file)).interactions
    (tmp_path / "toy.txt").write_text(as_lines(reference), encoding="utf-8")
    rows = [line.split("\t") for line in toy_file.read_text(encoding="utf-8").splitlines()[1:]]
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        text = "\n".join(separator.join(row) for row in [["user_id", "item_id", "timestamp"], *rows])
        (tmp_path / f"toy{suffix}").write_text(text, encoding="utf-8")
    for name in ("toy.txt", "toy.csv", "toy.tsv"):
        dataset = load_dataset(name, tmp_path)
        assert dataset.interactions.digest() == reference.digest()
        assert dataset.interactions.warnings == ()
        assert dataset.name == "toy"


def test_the_ending_decides_between_files_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,timestamp\nu,csv,1\n", encoding="utf-8")
    assert load_dataset("a", tmp_path).interactions.item_ids == ("csv",)
    (tmp_path / "a.txt").write_text("u txt\n", encoding="utf-8")
    assert load_dataset("a", tmp_path).interactions.item_ids == ("txt",)
    assert load_dataset(str(tmp_path)).interactions.item_ids == ("txt",)
    assert load_dataset("a.csv", tmp_path).interactions.item_ids == ("csv",)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark data are not beside this checkout")
def test_amazon_beauty_as_published(tmp_path: Path) -> None:
    """The published text file, put together again from the atomic one: its SHA-256 says whether it is."""
    rows = (SHARED / "amazon-beauty" / "amazon-beauty.inter").read_text(encoding="utf-8").splitlines()[1:]
    lines: dict[str, list[str]] = {}
    for row in rows:
        user, item, _ = row.split("\t")
        lines.setdefault(user, [user]).append(item)
    text = "".join(" ".join(line) + "\n" for line in lines.values())
    (tmp_path / "Beauty.txt").write_text(text, encoding="utf-8")
    data = load_dataset("Beauty", tmp_path).interactions
    assert data.digest() == load_dataset("amazon-beauty", SHARED).interactions.digest()
    assert data.warnings == ()
    (tmp_path / "Beauty.txt").write_text(text + "\n", encoding="utf-8")
    assert "not its SHA-256 (226cce9c" in load_dataset("Beauty", tmp_path).interactions.warnings[0]
    (tmp_path / "Beauty.txt").write_text(text[:1_000_000], encoding="utf-8")
    with pytest.raises(DataError, match="Beauty has 198502, 22363 and 12101: the file is truncated"):
        load_dataset("Beauty", tmp_path)


def test_a_truncated_sequence_file_of_a_known_set_is_refused(tmp_path: Path) -> None:
    """Yelp lies about cut off after 30,250 users."""
    yelp = KNOWN_FILES["Yelp.txt"]
    lines = [
        f"{user} " + " ".join(str(1 + (user + n) % yelp.items) for n in range(10))
        for user in range(1, 30_251)
    ]
    (tmp_path / "Yelp.txt").write_text("\n".join([*lines, "30251 17"]), encoding="utf-8")
    with pytest.raises(
        DataError, match="has 302501 events of 30251 users .*Yelp has 316354, 30431 and 20033"
    ):
        load_dataset("Yelp", tmp_path)


def test_known_counts_are_those_of_the_file_before_repeats_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfar.recsys import datasets

    (tmp_path / "four.txt").write_text("u a a b a\n", encoding="utf-8")
    monkeypatch.setitem(datasets.KNOWN_FILES, "four.txt", datasets.KnownFile(4, 1, 2))
    data = load_dataset("four", tmp_path, duplicates="drop_consecutive").interactions
    assert data.items.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("is empty; one line a user", b""),
        ("is empty; one line a user", b"\n \n"),
        ("line 2 has user 'v' and no item", b"u a b\nv\nw a\n"),
        ("line 2 is empty", b"u a b\n\nw a\n"),
        ("line 3 is about user 'u', as line 1 is", b"u a b\nv a\nu c\n"),
        ("line 2 holds a NUL", b"u a b\nv a\0\0\0"),
        ("not UTF-8", b"u \xff\n"),
        ("has user 'user_id,item_id,timestamp' and no item", b"user_id,item_id,timestamp\nu,a,1\n"),
    ],
)
def test_broken_sequence_files(tmp_path: Path, message: str, content: bytes) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sequences(path)


def test_sequence_files_have_no_columns_and_take_any_white_space(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"u\ta  b\r\nv c\r\n")
    data = read_sequences(path)
    assert (data.user_ids, data.item_ids, data.items.tolist()) == (("u", "v"), ("a", "b", "c"), [1, 2, 3])
    with pytest.raises(ConfigError, match="no columns to name"):
        load_dataset(str(path), columns=ColumnsConfig(user="u"))
    with pytest.raises(DataError, match="does not exist"):
        read_sequences(tmp_path / "absent.txt")


def test_columns_can_be_named_and_times_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('what,when,who\n"x, y",2,007\nz,1,007\n', encoding="utf-8")
    named = ColumnsConfig(user="who", item="what", time="when")
    data = load_dataset(str(path), columns=named).interactions
    assert (data.user_ids, [data.item_ids[i - 1] for i in data.items]) == (("007",), ["z", "x, y"])
    data = load_dataset(str(path), columns=ColumnsConfig(user="who", item="what", time=None)).interactions
    assert [data.item_ids[i - 1] for i in data.items] == ["x, y", "z"]


def test_dates_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    head = "user_id,item_id,timestamp\n"
    path.write_text(f"{head}u,a,2024-05-01 12:30:00\nu,b,2024-05-01\n", encoding="utf-8")
    assert [read_csv(path).item_ids[i - 1] for i in read_csv(path).items] == ["b", "a"]
    path.write_text(f"{head}u,a,2024-05-01T12:30:00Z\nu,b,2024-05-01T13:00:00+02:00\n", encoding="utf-8")
    assert [read_csv(path).item_ids[i - 1] for i in read_csv(path).items] == ["b", "a"]
    path.write_text(f"{head}u,a,2024-05-01T12:30:00Z\nu,b,2024-05-01T13:00:00\n", encoding="utf-8")
    with pytest.raises(DataError, match="some values of timestamp have a time zone"):
        read_csv(path)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("is empty; a header line such as 'user_id,item_id,timestamp'", ""),
        ("no interactions", "user_id,item_id,timestamp\n"),
        ("no column 'timestamp' .found user_id, item_id, timestamps", "user_id,item_id,timestamps\nu,i,1\n"),
        (
            "data row 2 has no timestamp .1 such rows.; the file may be truncated",
            "user_id,item_id,timestamp\nu,i,1\nu,j\n",
        ),
        ("data row 1 has no item_id", "user_id,item_id,timestamp\nu,,1\n"),
        ("data row 2: timestamp is 'soon', a whole", "user_id,item_id,timestamp\nu,i,1\nu,i,soon\n"),
        (
            "data row 1: timestamp is 'soon'; whole numbers .* or dates",
            "user_id,item_id,timestamp\nu,i,soon\n",
        ),
        ("data row 2: timestamp is '2'; whole", "user_id,item_id,timestamp\nu,i,2024-05-01\nu,i,2\n"),
        ("is not a table", "user_id,item_id,timestamp\nu,i,1,2,3\n"),
        ("is not a table", 'user_id,item_id,timestamp\nu,"i,1\n'),
    ],
)
def test_broken_csv_files(tmp_path: Path, message: str, content: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_csv(path)


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {"user_id": [2**60 + 1, 2**60, 2**60], "item_id": [3, 10, 9], "timestamp": [1, 5, 4]}
    parquet.write_table(arrow.table(columns | {"price": [0.5] * 3}), path)
    data = load_dataset("a", tmp_path).interactions
    assert data.user_ids == (2**60, 2**60 + 1)
    assert [data.item_ids[i - 1] for i in data.items] == [9, 10, 3]

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_parquet(path)

    parquet.write_table(arrow.table(columns | {"item_id": [3, None, 9]}), path)
    refused("1 rows have no item_id")
    parquet.write_table(arrow.table(columns).drop_columns("timestamp"), path)
    refused("no column 'timestamp'; found user_id, item_id")
    assert read_parquet(path, time=None).num_users == 2
    parquet.write_table(arrow.table(columns).slice(0, 0), path)
    refused("no interactions")
    parquet.write_table(arrow.table(columns), path)
    path.write_bytes(path.read_bytes()[:-20])
    refused("is not a Parquet file, or truncated")
    path.write_bytes(b"")
    refused("is not a Parquet file, or truncated")
    path.unlink()
    refused("does not exist")


def test_a_run_reads_tables_with_columns_of_other_names(tmp_path: Path, toy_file: Path) -> None:
    text = toy_file.read_text(encoding="utf-8").replace("\t", ",")
    path = tmp_path / "named.csv"
    path.write_text("who,what,when" + text[text.index("\n") :], encoding="utf-8")
    config = PopularityConfig(data=str(path), columns=ColumnsConfig(user="who", item="what", time="when"))
    task = RecsysTask(config, Popularity)
    assert task.card.digest == load_dataset(str(toy_file)).interactions.digest()
