"""Graphs by name and from files: counts, splits, fingerprints, and files that are broken."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.graph import citation_graphs
from nearfar.graph.citation_graphs import KNOWN_GRAPHS, KnownGraph
from nearfar.graph.datasets import GraphDataset, load_dataset, normalized
from nearfar.graph.packaged_graphs import nearest_neighbors
from nearfar.optional import installed

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RAW = SHARED / "planetoid" / "Cora" / "raw"
with_cora = pytest.mark.skipif(
    not RAW.is_dir() or not installed("torch_geometric"),
    reason="the shared benchmark data are not beside this checkout, or torch_geometric is not installed",
)
with_pyg = pytest.mark.skipif(not installed("torch_geometric"), reason="torch_geometric is not installed")


def arrays(n: int = 20, seed: int = 0) -> dict[str, NDArray[Any]]:
    """A ring with features and three classes."""
    rng = np.random.default_rng(seed)
    ring = np.stack([np.arange(n), (np.arange(n) + 1) % n])
    return {
        "x": rng.normal(size=(n, 4)),
        "edge_index": np.concatenate([ring, ring[::-1]], axis=1),
        "y": np.arange(n) % 3,
    }


def given_masks(n: int = 20) -> dict[str, NDArray[Any]]:
    places = np.arange(n)
    return {"train_mask": places < 6, "val_mask": (places >= 6) & (places < 9), "test_mask": places >= 12}


def write(folder: Path, contents: dict[str, NDArray[Any]], name: str = "ring.npz") -> Path:
    np.savez(folder / name, **contents)  # type: ignore[arg-type]
    return folder / name


def toy(**changed: Any) -> GraphDataset:
    """A valid data set, or one with one thing wrong."""
    made: dict[str, Any] = {
        "name": "toy",
        "source": "here",
        "x": torch.eye(4),
        "edge_index": torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]),
        "y": torch.tensor([0, 1, 1, 0]),
        "train_mask": torch.tensor([True, True, False, False]),
        "val_mask": torch.tensor([False, False, True, False]),
        "test_mask": torch.tensor([False, False, False, True]),
    }
    return GraphDataset(**{**made, **changed})


@with_cora
def test_cora_as_published() -> None:
    data = load_dataset("Cora", SHARED)
    assert (data.num_nodes, data.edge_index.shape[1], data.x.shape[1], data.num_classes) == (
        2708,
        10_556,
        1433,
        7,
    )
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [140, 500, 1000]
    assert torch.bincount(data.y[data.train_mask]).tolist() == [20] * 7
    assert data.train_mask[:140].all()
    assert data.warnings == ()
    assert data.name == "cora"
    degree = torch.bincount(data.edge_index[1], minlength=2708)
    assert (int(degree.max()), int((degree**2).sum())) == (168, 115_158)
    assert torch.equal(data.x.sum(1).round(decimals=4), torch.ones(2708))
    raw = load_dataset("cora", SHARED, normalize=False)
    assert raw.x.unique().tolist() == [0.0, 1.0]
    assert torch.equal(raw.edge_index, data.edge_index)
    assert raw.digest() != data.digest()
    # Another seed changes nothing: the split is the public one. All places it is looked for in are equal.
    for place in (SHARED / "planetoid", SHARED / "planetoid" / "Cora", RAW):
        assert load_dataset("CORA", place, split_seed=3).digest() == data.digest()
    assert not (SHARED / "planetoid" / "Cora" / "processed").exists()


@with_cora
def test_cora_is_that_of_torch_geometric(tmp_path: Path) -> None:
    from torch_geometric.datasets import Planetoid
    from torch_geometric.transforms import NormalizeFeatures

    shutil.copytree(RAW, tmp_path / "Cora" / "raw")
    theirs = Planetoid(str(tmp_path), "Cora", transform=NormalizeFeatures())[0]
    ours = load_dataset("cora", tmp_path)
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.y, theirs.y)
    assert set(zip(*ours.edge_index.tolist(), strict=True)) == set(
        zip(*theirs.edge_index.tolist(), strict=True)
    )
    assert torch.equal(ours.test_mask, theirs.test_mask)


@with_cora
def test_planetoid_files_that_are_broken(tmp_path: Path) -> None:
    folder = tmp_path / "Cora" / "raw"
    shutil.copytree(RAW, folder)
    (folder / "ind.cora.ty").unlink()
    with pytest.raises(DataError, match="raw lacks ind.cora.ty; download the files of Cora again"):
        load_dataset("cora", tmp_path)
    content = (RAW / "ind.cora.ty").read_bytes()
    (folder / "ind.cora.ty").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"ind.cora.ty is no pickle of arrays: .*; get it again"):
        load_dataset("cora", tmp_path)
    (folder / "ind.cora.ty").write_bytes(content)
    graph = pickle.loads((RAW / "ind.cora.graph").read_bytes(), encoding="latin1")
    graph[0] = []
    (folder / "ind.cora.graph").write_bytes(pickle.dumps(graph))
    with pytest.raises(DataError, match=r"10553 directed edges.*Cora has 2708, 10556, 1433 and 7: the files"):
        load_dataset("cora", tmp_path)


@with_cora
def test_the_cache_is_looked_in_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path))
    shutil.copytree(RAW, tmp_path / "planetoid" / "Cora" / "raw")
    data = load_dataset("cora")
    assert data.digest() == load_dataset("cora", SHARED).digest()
    assert data.source == str(tmp_path / "planetoid" / "Cora" / "raw")


def test_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the files that are missing, from one address, the file that says all is there last."""
    calls: list[tuple[str, Path, str | None]] = []

    def unreachable(url: str, path: Path, sha256: str | None) -> None:
        calls.append((url, path, sha256))
        raise DataError("Name or service not known")

    monkeypatch.setattr(citation_graphs, "download", unreachable)
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path))
    message = r"PubMed could not be downloaded \(Name .* put ind.pubmed.\{x,tx,allx.*data_dir=<folder>"
    with pytest.raises(DataError, match=message):
        load_dataset("pubmed")
    monkeypatch.delenv("NEARFAR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match="could not be downloaded"):
        load_dataset("CiteSeer")
    base = "https://github.com/kimiyoung/planetoid/raw/master/data"
    cache = tmp_path / "home" / ".cache" / "nearfar" / "planetoid"
    assert calls == [
        (f"{base}/ind.pubmed.tx", tmp_path / "planetoid" / "PubMed" / "raw" / "ind.pubmed.tx", None),
        (f"{base}/ind.citeseer.tx", cache / "CiteSeer" / "raw" / "ind.citeseer.tx", None),
    ]


@with_cora
def test_cora_is_downloaded_file_by_file_with_its_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[str] = []

    def copied(url: str, path: Path, sha256: str | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(RAW / path.name, path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        got.append(path.name)

    monkeypatch.setattr(citation_graphs, "download", copied)
    monkeypatch.setenv("NEARFAR_CACHE", str(tmp_path))
    assert load_dataset("cora").num_nodes == 2708
    assert len(got) == 8
    assert got[-1] == "ind.cora.x"
    load_dataset("cora")
    assert len(got) == 8


def test_nothing_is_downloaded_where_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no ind.citeseer.x in .*CiteSeer/raw, .*leave data_dir out to download"
    ):
        load_dataset("citeseer", tmp_path)


@pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
def test_digits() -> None:
    data = load_dataset("digits", normalize=False)
    assert data.x.shape == (1797, 64)
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
    assert data.num_classes == 10
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [179, 179, 1439]
    assert data.edge_index.shape[1] == 12_808
    assert data.warnings == ()
    # The five of the largest cosine are among the neighbours of every image; the rest chose it themselves.
    rows = torch.nn.functional.normalize(data.x.double(), dim=1)
    cosine = (rows @ rows.T).fill_diagonal_(-1)
    joined = torch.zeros(1797, 1797, dtype=torch.bool)
    joined[data.edge_index[0], data.edge_index[1]] = True
    assert torch.equal(joined, joined.T)
    fifth = cosine.topk(5, dim=1).values[:, 4:]
    chosen = cosine >= fifth - 1e-12
    assert torch.equal(joined, chosen | chosen.T)
    same = (data.y[data.edge_index[0]] == data.y[data.edge_index[1]]).double().mean()
    assert same > 0.95


@pytest.mark.skipif(not installed("sklearn"), reason="scikit-learn is not installed")
def test_seeds_change_the_split_only() -> None:
    first, again, other = (load_dataset("digits", split_seed=seed) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()
    assert torch.equal(first.x, other.x)
    assert not torch.equal(first.train_mask, other.train_mask)


@pytest.mark.interop
@pytest.mark.skipif(
    not installed("recbole"), reason="ml-100k is part of RecBole's wheel, which is not installed"
)
def test_films() -> None:
    data = load_dataset("films", normalize=False)
    assert data.x.shape == (915, 74)
    assert torch.bincount(data.y).tolist() == [148, 52, 290, 425]
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
    assert [int(mask.sum()) for mask in (data.train_mask, data.val_mask, data.test_mask)] == [91, 91, 733]
    assert data.warnings == ()
    source, target = data.edge_index
    assert int(torch.bincount(source).min()) >= 10
    same = (data.y[source] == data.y[target]).double().mean()
    assert 0.58 < same < 0.62
    # One year, and every rater in one occupation, one gender and one age.
    assert torch.equal(data.x[:, :9].sum(1), torch.ones(915))
    shares = data.x[:, 9:39]
    for part in (shares[:, :21], shares[:, 21:23], shares[:, 23:], data.x[:, 69:]):
        assert torch.allclose(part.sum(1), torch.ones(915))


def test_nearest_neighbors_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    # Small numbers: many ties, some rows of zeros.
    counts = rng.integers(0, 2, size=(30, 4)).astype(float)
    expected = set()
    for i in range(30):
        others = [j for j in range(30) if j != i]

        def likeness(j: int, i: int = i) -> float:
            size = (counts[j] ** 2).sum()
            return float((counts[i] @ counts[j]) ** 2 / size) if size else 0.0

        for j in sorted(others, key=lambda j: (-likeness(j), j))[:3]:
            expected |= {(i, j), (j, i)}
    edges = nearest_neighbors(counts, 3)
    assert list(zip(*edges.tolist(), strict=True)) == sorted(expected)
    assert nearest_neighbors(counts[:3], 5).shape == (2, 6)


def test_normalized_is_that_of_torch_geometric() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    shifted = x.double() - x.double().min()
    expected = torch.stack([row / max(1.0, float(row.sum())) for row in shifted])
    assert torch.allclose(normalized(x).double(), expected, atol=1e-6)
    assert torch.equal(x, before)


def test_npz_with_and_without_masks(tmp_path: Path) -> None:
    path = write(tmp_path, {**arrays(), **given_masks()})
    data = load_dataset(str(path), normalize=False)
    assert (data.name, data.source, data.num_nodes, data.num_classes) == ("ring", str(path), 20, 3)
    assert torch.equal(data.x, torch.from_numpy(arrays()["x"]).float())
    assert data.train_mask.tolist() == given_masks()["train_mask"].tolist()
    assert data.warnings == ()
    assert load_dataset("ring.npz", tmp_path, split_seed=4, normalize=False).digest() == data.digest()

    # A file may be called like a known graph, and is still the user's own.
    write(tmp_path, {**arrays(), **given_masks()}, "cora.npz")
    assert load_dataset("cora.npz", tmp_path, normalize=False).num_nodes == 20
    write(tmp_path, arrays(), "plain.npz")
    plain = load_dataset("plain.npz", tmp_path, split_seed=1)
    assert [int(mask.sum()) for mask in (plain.train_mask, plain.val_mask, plain.test_mask)] == [2, 2, 16]
    assert len(plain.warnings) == 1
    assert plain.warnings[0].startswith("no training node is of class ")


def test_npz_is_put_right_and_says_so(tmp_path: Path) -> None:
    contents = arrays(30)
    untidy = np.array([[4, 4, 0, 2], [4, 4, 1, 9]])
    path = write(
        tmp_path, {**contents, "edge_index": np.concatenate([contents["edge_index"], untidy], axis=1)}
    )
    data = load_dataset(str(path))
    assert data.warnings[:2] == (
        "2 self loops and 1 duplicate edge were left out",
        "1 of 61 edges has no opposite; it is kept as directed: the augmentation treats directions independently",
    )


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("lacks x, y; it has edge_index", {"x": None, "y": None}),
        ("lacks val_mask, test_mask; it has", {"train_mask": given_masks()["train_mask"]}),
        ("x: nan in row 3, column 1", {"x": np.where(np.arange(80).reshape(20, 4) == 13, np.nan, 1.0)}),
        (r"edge_index: shape \(2, E\) expected.*transpose it", {"edge_index": arrays()["edge_index"].T}),
        (
            "edge_index: ids of type int64 expected, got torch.int32",
            {"edge_index": np.zeros((2, 3), np.int32)},
        ),
        (r"edge_index: edge 0 is 0 -> 20, ids must be in \[0, 20\)", {"edge_index": np.array([[0], [20]])}),
        ("y: torch.int64 .* expected, one a node, got torch.float64", {"y": np.zeros(20)}),
        (r"y: torch.int64 of shape \(20,\) expected.*of \(19,\)", {"y": np.zeros(19, int)}),
        ("y: class -1 of node 0, 0 to 19 expected .*; number the classes from 0", {"y": np.full(20, -1)}),
        ("y: numbers expected, got <U1", {"y": np.full(20, "a")}),
        ("cannot be read as .npz: y.npy holds objects", {"y": np.array([{}] * 20, dtype=object)}),
        ("train_mask: no node is in it", {**given_masks(), "train_mask": np.zeros(20, bool)}),
        ("val_mask: torch.bool of shape", {**given_masks(), "val_mask": np.arange(3)}),
        (
            "train_mask and test_mask: 6 nodes are in both, the first is node 0; make them disjoint",
            {**given_masks(), "test_mask": given_masks()["train_mask"]},
        ),
    ],
)
def test_npz_that_is_refused(tmp_path: Path, message: str, changed: dict[str, Any]) -> None:
    contents = {name: array for name, array in {**arrays(), **changed}.items() if array is not None}
    path = write(tmp_path, contents)
    with pytest.raises(DataError, match=f"ring.npz:? .*{message}|ring.npz {message}"):
        load_dataset(str(path))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone.npz does not exist"):
        load_dataset("gone.npz", tmp_path)
    for content in (b"", b"no archive", b"PK\x03\x04 cut off"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="bad.npz cannot be read as .npz"):
            load_dataset("bad.npz", tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(DataError, match="one.npz cannot be read as .npz"):
        load_dataset("one.npz", tmp_path)
    with pytest.raises(
        DataError, match="no data set 'corra'; known names: cora, citeseer, pubmed, digits, films"
    ):
        load_dataset("corra")
    write(
        tmp_path,
        {name: array[..., :5] if name == "edge_index" else array[:5] for name, array in arrays(5).items()},
    )
    with pytest.raises(DataError, match="ring.npz: 5 nodes cannot be split"):
        load_dataset("ring.npz", tmp_path)


def test_digest_is_that_of_the_content() -> None:
    reference = toy()
    # Written down, so that runs can be compared across versions and machines.
    assert reference.digest() == "9bbe251c050e37f4a5034d9acfd97998"
    assert toy(name="other", source="there", warnings=("w",)).digest() == reference.digest()
    different = [
        toy(x=torch.eye(4) * 2),
        toy(edge_index=torch.tensor([[0, 1], [1, 0]])),
        toy(y=torch.tensor([0, 1, 1, 1])),
        toy(
            val_mask=torch.tensor([False, False, False, True]),
            test_mask=torch.tensor([False, False, True, False]),
        ),
    ]
    assert len({data.digest() for data in [reference, *different]}) == 5


@pytest.mark.parametrize(
    ("message", "changed"),
    [
        ("here: x: dense float32 expected, got .*float64", {"x": torch.eye(4).double()}),
        ("here: x: dense float32 expected, got torch.sparse_coo", {"x": torch.eye(4).to_sparse()}),
        ("here: edge_index: 1 self loop", {"edge_index": torch.tensor([[0], [0]])}),
        ("here: edge_index: edges sorted by source", {"edge_index": torch.tensor([[1, 0], [0, 1]])}),
        ("here: edge_index: edges sorted by source", {"edge_index": torch.tensor([[0, 0], [2, 1]])}),
    ],
)
def test_a_data_set_is_checked_wherever_it_is_made(message: str, changed: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=message):
        toy(**changed)


def test_known_counts() -> None:
    KnownGraph("Toy", 4, 4, 4, 2).check("here", 4, 4, 4, 2)
    for known in (
        KnownGraph("Toy", 5, 4, 4, 2),
        KnownGraph("Toy", 4, 5, 4, 2),
        KnownGraph("Toy", 4, 4, 5, 2),
        KnownGraph("Toy", 4, 4, 4, 3),
    ):
        with pytest.raises(
            DataError, match="here has 4 nodes, 4 directed edges, 4 features and 2 classes, Toy has"
        ):
            known.check("here", 4, 4, 4, 2)
    assert set(KNOWN_GRAPHS) == {"cora", "citeseer", "pubmed"}
