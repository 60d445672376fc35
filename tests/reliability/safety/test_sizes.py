"""Small files that promise much: refused before memory is asked for, by a message that says how much it was."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.allocation_limit import AllocationLimit
from nearfar.config import yaml12
from nearfar.data.npz import read_npz
from nearfar.data.size_limit import ALWAYS, FACTOR, check_claim
from nearfar.errors import CheckpointError, ConfigError, DataError, NearfarError
from nearfar.optional import installed
from nearfar.saved import SavedFormat
from nearfar.training.checkpoint import Checkpoint, CheckpointStore

pytestmark = pytest.mark.row("L02", damages=1)
MOST_MIB = 200


def grown(call: str, *imports: str) -> tuple[float, str]:
    """Mebibytes by which the peak of this process rose in a call, and how it was refused."""
    scope: dict[str, Any] = {}
    exec("\n".join(imports), scope)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NearfarError) as caught:
        eval(call, scope)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, str(caught.value)


def refused(call: str, *imports: str) -> str:
    """The refusal of a call that took little memory."""
    mebibytes, message = grown(call, *imports)
    assert mebibytes < MOST_MIB
    return message


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """The head of a ``.npy`` file."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    """A zip file."""
    with zipfile.ZipFile(path, "w", how) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


GRAPH = "from nearfar.graph.datasets import load_dataset"
SERIES = "from nearfar.timeseries.datasets import load_dataset"
ROWS = "from nearfar.classification.datasets import load_dataset"
EVENTS = "from nearfar.recsys.datasets import load_dataset"


@pytest.mark.parametrize("reader", [GRAPH, SERIES, ROWS], ids=["graph", "series", "rows"])
def test_a_header_of_ten_gigabytes(tmp_path: Path, reader: str) -> None:
    """In a file of a kilobyte."""
    names = ("x", "edge_index", "y", "x_train", "y_train", "x_test", "y_test")
    path = archive(tmp_path / "bomb.npz", {name: header((2_500_000_000,)) + b"1234" for name in names})
    message = refused(f"load_dataset({str(path)!r})", reader)
    assert "bomb.npz" in message
    assert "says (2500000000,) of float32 and holds 4 bytes" in message


@pytest.mark.parametrize("reader", [GRAPH, SERIES, ROWS], ids=["graph", "series", "rows"])
def test_a_member_that_inflates_a_thousandfold(tmp_path: Path, reader: str) -> None:
    """150 megabytes of zeros in 150 kilobytes, twice."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x", "x_train"):
            with file.open(f"{name}.npy", "w") as member:
                member.write(header((36 << 20,)))
                for _ in range(9):
                    member.write(bytes(1 << 24))
        for name in ("edge_index", "y", "y_train", "x_test", "y_test"):
            file.writestr(f"{name}.npy", header((0,)))
    assert path.stat().st_size < 3 << 20
    message = refused(f"load_dataset({str(path)!r})", reader)
    assert "its arrays would take" in message
    assert "write it uncompressed, with numpy.savez" in message


def test_a_directory_that_lies_about_a_member(tmp_path: Path) -> None:
    """The size in the directory at the end is not that of the member."""
    path = archive(tmp_path / "bomb.npz", {"x": header((1000,)) + bytes(4000)}, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02") + 24
    path.write_bytes(content[:place] + struct.pack("<I", 100_000_000) + content[place + 4 :])
    with pytest.raises(DataError, match=r"x.npy says \(1000,\) of float32 and holds 99,999,"):
        read_npz(path)


@pytest.mark.parametrize("shape", [(10**12, 0), (0, 10**12), (-1, -4), (2**62, 2**62)])
def test_shapes_of_nothing(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A million million rows of no columns take no byte; negative and overflowing ones are none."""
    path = archive(tmp_path / "bomb.npz", {"x": header(shape)})
    with pytest.raises(DataError, match=r"bomb\.npz cannot be read as \.npz: x\.npy says .* and holds"):
        read_npz(path)


def test_real_inflation_is_allowed(tmp_path: Path) -> None:
    """One-hot features of papers, compressed."""
    x = np.zeros((20_000, 1000), dtype=np.float32)
    x[np.arange(20_000), np.arange(20_000) % 1000] = 1
    np.savez_compressed(tmp_path / "real.npz", x=x)
    assert x.nbytes > 50 * (tmp_path / "real.npz").stat().st_size
    assert np.array_equal(read_npz(tmp_path / "real.npz")["x"], x)


def test_the_limit() -> None:
    """Is a size that all may have, and then a multiple."""
    for size, claimed in ((1, ALWAYS), (ALWAYS, FACTOR * ALWAYS)):
        check_claim(Path("f"), claimed, "x", "fix", size=size)
        with pytest.raises(
            DataError, match=f"f: x would take {claimed + 1:,} bytes, from a file of {size:,}; fix"
        ):
            check_claim(Path("f"), claimed + 1, "x", "fix", size=size)


def test_series_padded_to_one_long_one(tmp_path: Path) -> None:
    """10,000 series of one step and one of 100,000: 8 GB in 250 kB."""
    head = "@timeStamps false\n@classLabel true a b\n@data\n"
    long = ",".join("1" * 1 for _ in range(100_000)) + ":a\n"
    (tmp_path / "Toy_TRAIN.ts").write_text(head + long + "1:a\n2:b\n" * 5000)
    (tmp_path / "Toy_TEST.ts").write_text(head + "1:a\n2:b\n" * 2)
    message = refused(f"load_dataset('Toy', {str(tmp_path)!r})", SERIES)
    assert "10001 series, padded to 100,000 steps, would take 8,000,800,000 bytes" in message
    # The long one in the other file.
    (tmp_path / "Toy_TRAIN.ts").write_text(head + "1:a\n2:b\n" * 5000)
    (tmp_path / "Toy_TEST.ts").write_text(head + long)
    message = refused(f"load_dataset('Toy', {str(tmp_path)!r})", SERIES)
    assert (
        "Toy_TRAIN.ts: its 10000 series, padded to the 100,000 steps of the longest of both files" in message
    )


@pytest.mark.parametrize(("name", "separator"), [("toy.csv", ","), ("toy.tsv", "\t"), ("toy.inter", "\t")])
def test_a_million_columns(tmp_path: Path, name: str, separator: str) -> None:
    """Of which pandas would make frames for minutes."""
    path = tmp_path / name
    path.write_text(separator.join(f"c{number}" for number in range(1_000_000)) + "\n")
    message = refused(f"load_dataset({str(path)!r})", EVENTS)
    assert f"{name} has 1,000,000 columns, 10,000 at most are read; leave some out" in message


def test_a_line_of_a_hundred_megabytes(tmp_path: Path) -> None:
    """One cell of it: memory grows by a small multiple of that, and the table is none."""
    for name, reader in (
        ("toy.csv", SERIES),
        ("toy.csv", EVENTS),
        ("toy.inter", EVENTS),
        ("toy.txt", EVENTS),
    ):
        path = tmp_path / name
        with path.open("w") as file:
            for _ in range(100):
                file.write("x" * 1_000_000)
        mebibytes, message = grown(f"load_dataset({str(path)!r})", reader)
        assert name in message
        assert len(message) < 10_100, (name, len(message))
        assert mebibytes < 10 * 100, (name, mebibytes)


@pytest.mark.skipif(not installed("pyarrow"), reason="pyarrow is not installed")
@pytest.mark.parametrize("kind", ["rows", "text", "bytes"])
def test_columns_of_equal_values(tmp_path: Path, kind: str) -> None:
    """Parquet writes a value once: a hundred million rows, or a text of a megabyte in every row."""
    import pyarrow
    import pyarrow.parquet

    path, rows = tmp_path / "bomb.parquet", 40_000_000 if kind == "rows" else 20_000
    equal: Any = pyarrow.array(np.zeros(rows, np.int8))
    if kind != "rows":
        value = "x" * 1_000_000 if kind == "text" else b"x" * 1_000_000
        equal = pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(np.zeros(rows, np.int8)), pyarrow.array([value])
        )
    names = ("user_id", "item_id", "timestamp")
    columns = {name: pyarrow.array(np.zeros(rows, np.int8)) for name in names} | {"item_id": equal}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, path, store_schema=False, compression="zstd")
    message = refused(f"load_dataset({str(path)!r})", EVENTS)
    what = (
        f"{rows:,} rows would take"
        if kind == "rows"
        else "the text of item_id would take 20,000,000,000 bytes"
    )
    assert what in message
    assert "write the columns as .csv" in message


@pytest.mark.skipif(not installed("scipy"), reason="scipy is not installed")
def test_a_sparse_matrix_without_values(tmp_path: Path) -> None:
    """Ten million by ten thousand of nothing, in a pickle."""
    import scipy.sparse

    from nearfar.data.array_pickle import read_array_pickle

    matrix = scipy.sparse.csr_matrix((100_000, 2**31 - 1), dtype=np.float32)
    path = tmp_path / "ind.cora.allx"
    path.write_bytes(pickle.dumps(matrix, 2))
    with pytest.raises(DataError, match=r"allx: its sparse matrix, made dense, would take 858,993,458,"):
        read_array_pickle(path, "latin1").dense(path)


def _encoder(**arguments: Any) -> tuple[str, SavedFormat, dict[str, Any]]:
    return (
        "load_encoder",
        SavedFormat("time series encoder", "encoder.json"),
        {"arguments": {"num_channels": 2} | arguments},
    )


MODELS: dict[str, tuple[str, SavedFormat, dict[str, Any], str]] = {}
_ENCODERS: dict[str, dict[str, Any]] = {
    "dim": {"dim": 10**9},
    "hidden": {"hidden": 10**9},
    "depth": {"depth": 10**9},
    "channels": {"num_channels": 10**12},
    "trend": {"head": "trend", "dim": 10**6},
}
for _name, _arguments in _ENCODERS.items():
    MODELS[f"series {_name}"] = (*_encoder(**_arguments), "from nearfar.timeseries.saved import load_encoder")
if installed("torch_geometric"):
    for _name, _arguments in {"dim": {"dim": 10**9}, "features": {"num_features": 10**10}}.items():
        MODELS[f"graph {_name}"] = (
            *("load_encoder", SavedFormat("graph encoder", "encoder.json")),
            {"arguments": {"num_features": 2} | _arguments},
            "from nearfar.graph.saved import load_encoder",
        )
_SHAPES: dict[str, dict[str, Any]] = {
    "shape": {"shape": [10**10]},
    "images": {"encoder": "resnet18", "shape": [10**9, 2, 2]},
}
for _name, _arguments in _SHAPES.items():
    MODELS[f"classifier {_name}"] = (
        *("load_classifier", SavedFormat("classifier", "classifier.json")),
        {"encoder": "mlp", "standardised": None, "classes": [0, 1]} | _arguments,
        "from nearfar.classification.classifier import load_classifier",
    )
_SIZES: dict[str, dict[str, Any]] = {
    "items": {"num_items": 10**10},
    "dim": {"dim": 10**9, "num_heads": 1},
    "layers": {"num_layers": 10**9},
    "length": {"max_length": 10**10},
}
for _name, _arguments in _SIZES.items():
    MODELS[f"recommender {_name}"] = (
        *("Recommender.load", SavedFormat("recommender", "recommender.json", 2, (1, 2), 2)),
        {
            "scorer": "sasrec",
            "arguments": {"num_items": 1} | _arguments,
            "user_ids": ["u"],
            "item_ids": ["i"],
            "titles": {},
        },
        "from nearfar.recsys import Recommender",
    )


@pytest.mark.parametrize("name", MODELS)
def test_saved_models_of_absurd_sizes(tmp_path: Path, name: str) -> None:
    """The description says a thousand million, the weights are six numbers."""
    call, form, description, imports = MODELS[name]
    folder = tmp_path / "model"
    form.write(folder, {"weight": torch.zeros(3, 2)}, description)
    message = refused(f"{call}({str(folder)!r})", imports)
    assert str(folder) in message
    assert f"{form.description} names sizes of" in message
    assert "of weights that have 6" in message


def test_layers_that_fit_are_made_as_without_a_limit() -> None:
    """With the same weights."""
    made = []
    for limit in (AllocationLimit({"w": torch.zeros(100, 100)}, "x"), torch.no_grad()):
        torch.manual_seed(3)
        with limit:
            made.append(torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Embedding(40, 5)))
    for one, other in zip(*(module.parameters() for module in made), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad


@pytest.mark.parametrize("length", [8, 10**12, 2**63, 100])
def test_weights_with_a_header_that_lies(tmp_path: Path, length: int) -> None:
    """Of a length the file does not have, or of tensors that it does not have."""
    form, folder = SavedFormat("toy", "toy.json"), tmp_path / "model"
    form.write(folder, {"w": torch.zeros(2)}, {})
    head = json.dumps({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    content = struct.pack("<Q", length if length != 100 else len(head)) + head
    (folder / "model.safetensors").write_bytes(content)
    description = json.loads((folder / "toy.json").read_text())
    description["weights"] = hashlib.blake2b(content, digest_size=16).hexdigest()
    (folder / "toy.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"is not a saved toy: .*; save it again"):
        form.read(folder)


CHECKPOINT: dict[str, Any] = {"step": 3, "fingerprint": {}, "method": {}, "optimizers": {}, "history": []}
HARMFUL: dict[str, Callable[[], Any]] = {
    "strides of zero": lambda: {"method": {"w": torch.zeros(1).expand(10**12)}},
    "strides in an optimiser": lambda: {
        "optimizers": {"main": {"state": {0: [torch.zeros(1).expand(10**10)]}}}
    },
    "a sparse tensor": lambda: {
        "method": {"w": torch.sparse_coo_tensor(torch.zeros(2, 0), [], (10**6, 10**6))}
    },
    "another step": lambda: {"step": 4},
    "a list of weights": lambda: {"method": [1]},
    "no numbers": lambda: {"history": [{"val/x": "best"}]},
}


@pytest.mark.parametrize("name", HARMFUL)
def test_checkpoints_that_make_much_of_little(tmp_path: Path, name: str) -> None:
    """With checksums that hold."""
    content = {**{part: getattr(Checkpoint(3, {}, {}, {}), part) for part in Checkpoint.__dataclass_fields__}}
    torch.save(content | CHECKPOINT | HARMFUL[name](), tmp_path / "step-00000003.ckpt")
    with pytest.raises(CheckpointError, match=r"step-00000003\.ckpt is not a nearfar checkpoint: "):
        CheckpointStore(tmp_path).load(3)


@pytest.mark.parametrize("bracket", ["[", "{", "[{"])
def test_brackets_in_brackets_in_settings(tmp_path: Path, bracket: str) -> None:
    """A hundred thousand, of which PyYAML would make hours: the fuzz run found that it takes the square of them."""
    (tmp_path / "deep.yaml").write_text("a: " + bracket * 100_000)
    with pytest.raises(ConfigError, match=r"deep\.yaml, line 1: brackets inside brackets, more than 64 deep"):
        yaml12.load(tmp_path / "deep.yaml")


def test_aliases_of_aliases_in_settings(tmp_path: Path) -> None:
    """Ten levels of ten: ten thousand million values in 400 bytes; and one that stands for itself."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"bomb\.yaml: .*its aliases stand for more than 100,000 values"):
        yaml12.load(tmp_path / "bomb.yaml")
    (tmp_path / "itself.yaml").write_text("a: &a [*a]")
    with pytest.raises(ConfigError, match="its aliases stand for more"):
        yaml12.load(tmp_path / "itself.yaml")
    assert yaml12.loads("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}
