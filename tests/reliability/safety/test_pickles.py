"""Pickles that run programs: of arrays, of citation graphs, of RecBole. What they hold is read, nothing is run."""

from __future__ import annotations

import builtins
import os
import pickle
import shutil
import subprocess
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.data.array_pickle import SparseRows, read_array_pickle
from nearfar.errors import CheckpointError, ConfigError, DataError
from nearfar.graph.planetoid import read_planetoid
from nearfar.optional import installed

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
CORA = SHARED / "planetoid" / "Cora" / "raw"


class Command:
    """Calls something when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


FUNCTIONS: list[Callable[..., Any]] = [
    *(
        os.system,
        os.mkdir,
        eval,
        exec,
        getattr,
        open,
        builtins.__import__,
        subprocess.Popen,
        np.load,
        np.zeros,
    ),
    *(pickle.loads, torch.load, shutil.rmtree, bytearray),
]


@pytest.mark.row("L01", damages=1)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_pickle_that_calls_something_is_refused_by_name(
    tmp_path: Path, protocol: int, function: Callable[..., Any]
) -> None:
    """In front of arrays, behind them and inside them."""
    trace, path = tmp_path / "trace", tmp_path / "harm"
    told = {os.system: f"touch {trace}", os.mkdir: str(trace), open: str(trace)}.get(function, "x")
    command = Command(function, *((told, "w") if function is open else (told,)))
    for content in ({"x": command, "y": np.zeros(2)}, [np.zeros(2), command], command):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(DataError, match=r"harm is no pickle of arrays: it (asks for|uses|calls)"):
            read_array_pickle(path)
    assert not trace.exists()


RAW = {
    "an instance of old": b"(S'touch trace'\nios\nsystem\n.",
    "an object of old": b"(cos\nsystem\nS'touch trace'\no.",
    "a name in two parts": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x0btouch trace\x94\x85\x94R.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x94\x8c\x14ndarray.__init__.x.y\x94\x93\x94.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent name": b"Pos.system\n.",
    "a state for a class": b"cnumpy\nndarray\n}S'x'\nI1\nsb.",
    "an allowed name called": b"cnumpy\nndarray\n(I1000000000\ntR.",
    "a type of any size": b"cnumpy\ndtype\n(S'V1000000000'\nI0\nI1\ntR.",
    "text through a codec": b"c_codecs\nencode\n(Vx\nS'zip'\ntR.",
    "a place far out in the memo": b"I1\nr\xff\xff\xff\x7fj\xfe\xff\xff\x7f.",
    "a frame of 8 exabytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytes of 4 gigabytes": b"\x80\x04B\xff\xff\xff\xff.",
    "a dictionary in itself": b"}\x94h\x00S'x'\nh\x00s.",
    "nothing": b".",
    "a number of 5,000 digits": b"L" + b"9" * 5000 + b"L\n.",
}


@pytest.mark.row("L01", damages=1)
@pytest.mark.parametrize("content", RAW.values(), ids=RAW)
def test_opcodes_that_no_array_needs(tmp_path: Path, content: bytes) -> None:
    """Refused; nothing is called and no memory asked for."""
    path = tmp_path / "harm"
    path.write_bytes(content)
    with pytest.raises(DataError, match="harm is no pickle of arrays"):
        read_array_pickle(path)
    assert os.listdir(tmp_path) == ["harm"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "i8", "<f4", ">f8", "b1", "f2"])
def test_arrays_are_those_of_pickle(tmp_path: Path, protocol: int, kind: str) -> None:
    """As plain unpickling gives them: types, orders, lists, dictionaries, text, sparse matrices."""
    array = (np.arange(24).reshape(2, 3, 4) % 5).astype(kind)
    content = {
        "a": array,
        "f": np.asfortranarray(array),
        "empty": array[:, :0],
        "n": [1, 2.5, "é", b"x", None],
    }
    path = tmp_path / "arrays"
    path.write_bytes(pickle.dumps(content, protocol))
    found, plain = read_array_pickle(path), pickle.loads(path.read_bytes())
    assert found["n"] == plain["n"]
    for name in ("a", "f", "empty"):
        assert found[name].dtype == plain[name].dtype.newbyteorder("=")
        assert np.array_equal(found[name], plain[name])
        assert found[name].flags.writeable


def test_sparse_matrices_are_those_of_scipy(tmp_path: Path) -> None:
    """Values at one place are added up."""
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_matrix(
        (np.array([1.0, 2.0, 5.0]), np.array([1, 1, 0]), np.array([0, 2, 2, 3])), shape=(3, 4)
    )
    path = tmp_path / "matrix"
    path.write_bytes(pickle.dumps(matrix, 2))
    found = read_array_pickle(path, "latin1")
    assert isinstance(found, SparseRows)
    assert np.array_equal(found.dense(path), matrix.toarray())


def raw_graph(folder: Path, seed: int) -> None:
    """Files of a random graph: test nodes in any order, some numbers left out, edges twice and to themselves."""
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    first, span = 520, 12
    places = first + rng.permutation(span)[:9]
    places[places.argmin()] = first
    places = np.unique(np.append(places, first + span - 1))
    rng.shuffle(places)
    x = sparse.random(first + len(places), 7, 0.3, "csr", np.float32, rng=rng)
    y = np.eye(4, dtype=np.int32)[rng.integers(0, 4, first + len(places))]
    graph: defaultdict[int, list[int]] = defaultdict(list)
    for node in range(first + span):
        graph[node] = [int(other) for other in rng.integers(0, first + span, 4)]
        graph[node] += [node, graph[node][0]]
    parts = {"x": x[:8], "allx": x[:first], "tx": x[first:], "y": y[:8], "ally": y[:first], "ty": y[first:]}
    for name, value in {**parts, "graph": graph}.items():
        (folder / f"ind.citeseer.{name}").write_bytes(pickle.dumps(value, 2))
    (folder / "ind.citeseer.test.index").write_text("".join(f"{place}\n" for place in places))


def check_graph(folder: Path, prefix: str) -> None:
    """Bit for bit what torch_geometric reads."""
    theirs = pytest.importorskip("torch_geometric.io").read_planetoid_data(str(folder), prefix)
    x, edges, y, masks = read_planetoid(folder, prefix)
    assert torch.equal(x, theirs.x)
    assert x.dtype == theirs.x.dtype
    assert torch.equal(edges, theirs.edge_index.unique(dim=1))  # theirs are sorted by target
    assert torch.equal(y, theirs.y)
    for ours, name in zip(masks, ("train_mask", "val_mask", "test_mask"), strict=True):
        assert torch.equal(ours, theirs[name])


@pytest.mark.parametrize("seed", range(8))
def test_graphs_with_gaps_are_those_of_torch_geometric(tmp_path: Path, seed: int) -> None:
    """As CiteSeer has them."""
    raw_graph(tmp_path, seed)
    check_graph(tmp_path, "citeseer")


@pytest.mark.skipif(not CORA.is_dir(), reason="the shared benchmark data are not beside this checkout")
def test_cora_is_that_of_torch_geometric() -> None:
    """The real files."""
    check_graph(CORA, "cora")


@pytest.mark.row("L01", damages=8)
def test_a_graph_that_runs_programs_is_refused_and_does_not(tmp_path: Path) -> None:
    """Whichever of the files it is."""
    trace = tmp_path / "trace"
    for name in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"):
        raw_graph(tmp_path, 0)
        harm = pickle.dumps(Command(os.mkdir, str(trace)), 2)
        path = tmp_path / f"ind.citeseer.{name}"
        path.write_bytes(harm)
        if name != "x":  # which nobody needs: allx begins with it
            with pytest.raises(DataError, match=f"{path.name}.*"):
                read_planetoid(tmp_path, "citeseer")
    assert not trace.exists()


@pytest.fixture
def recbole_load(tmp_path: Path, load_as_recbole: Callable[..., Any]) -> Callable[..., Any]:
    """Saves something, and loads it as RecBole does."""

    def load(content: Any, **how: Any) -> Any:
        path = tmp_path / "saved.pth"
        torch.save(content, path, pickle_protocol=4)
        return load_as_recbole(path, **how)

    return load


@pytest.mark.interop
@pytest.mark.row("L01", damages=4)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_checkpoints_of_recbole_run_nothing(tmp_path: Path, recbole_load: Callable[..., Any]) -> None:
    """Whatever stands beside the tensors, unless one says that one wrote it."""
    trace = tmp_path / "trace"
    for harm in (
        Command(os.mkdir, str(trace)),
        Command(eval, f"__import__('os').mkdir({str(trace)!r})"),
        Command(torch.load, str(trace)),
    ):
        with pytest.raises(
            CheckpointError, match=r"saved.pth is refused: it (asks for|calls) .*trust_checkpoints=True"
        ):
            recbole_load({"state_dict": OrderedDict(w=torch.ones(2)), "config": harm})
    from nearfar.interop.recbole import compat

    with compat():  # importing a model of RecBole switches anomaly detection on; leaving the scope, off again
        from recbole.model.sequential_recommender.sasrec import SASRec

    with pytest.raises(CheckpointError, match="it calls .*SASRec"):
        recbole_load({"config": Command(SASRec, 1, 2)})
    assert not trace.exists()
    recbole_load({"config": Command(os.mkdir, str(trace))}, trust_checkpoints=True)
    assert trace.exists()


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_what_checkpoints_of_recbole_hold_comes_back(recbole_load: Callable[..., Any]) -> None:
    """Tensors, numbers of NumPy, devices; saved data sets beside them are pickles of anything, and refused."""
    state = OrderedDict(w=torch.randn(3, 2), b=torch.zeros(3, dtype=torch.int64))
    content = {
        "state_dict": state,
        "best": np.float64(0.25),
        "device": torch.device("cpu"),
        "x": [1, {2}, (3.5, None)],
    }
    found = recbole_load(content)
    assert torch.equal(found["state_dict"]["w"], state["w"])
    assert found["best"] == 0.25
    assert (found["device"], found["x"]) == (content["device"], content["x"])


@pytest.mark.interop
@pytest.mark.row("L01", damages=1)
def test_saved_data_sets_of_recbole_are_refused(tmp_path: Path) -> None:
    """They are looked for beside checkpoints, asked for or not."""
    if not installed("recbole"):
        pytest.skip("RecBole is not installed")
    from nearfar.interop.recbole import compat

    trace, path = tmp_path / "trace", tmp_path / "toy-SequentialDataset.pth"
    path.write_bytes(pickle.dumps(Command(os.mkdir, str(trace))))
    with compat():
        from recbole.data import utils

        with (
            path.open("rb") as file,
            pytest.raises(ConfigError, match="SequentialDataset.pth is a pickle, and may"),
        ):
            utils.pickle.load(file)
    assert not trace.exists()
    with compat(trust_checkpoints=True):
        assert utils.pickle is pickle
    assert utils.pickle is pickle
