"""F05: saved models, checkpoints, predictions and ranks."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

from nearfar.classification import classifier as classifiers
from nearfar.data.predictions import TestPredictions
from nearfar.encoders import build_encoder
from nearfar.graph.saved import load_encoder as load_graph_encoder
from nearfar.graph.saved import save_encoder as save_graph_encoder
from nearfar.optional import installed
from nearfar.recsys import Interactions, Recommender
from nearfar.recsys.ranks import TestRanks
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.saved import load_encoder, save_encoder
from nearfar.training.checkpoint import Checkpoint, CheckpointStore

pytestmark = pytest.mark.row("F05")


def _series(folder: Path) -> None:
    save_encoder(SeriesEncoder(2, dim=4, hidden=3, depth=1, head="trend"), folder)


def _graph(folder: Path) -> None:
    from nearfar.graph.encoder import GCNEncoder

    save_graph_encoder(GCNEncoder(3, 4, activation="prelu"), folder)


def _recommender(folder: Path) -> None:
    data = Interactions.from_sequences({"u": ["a", "b", "c"], "v": ["b", "c"], "w": ["a"]})
    encoder = SASRecEncoder(3, max_length=4, dim=4, num_layers=1, num_heads=2, inner_dim=4)
    Recommender(encoder, data, {"a": "A"}).save(folder)


def _classifier(folder: Path) -> None:
    encoder = build_encoder("identity", (3,))
    trained = classifiers.TrainedClassifier(encoder, torch.nn.Linear(3, 2), ["no", "yes"], (3,))
    classifiers.save_classifier(trained, "identity", folder)


def _use_recommender(folder: Path) -> Any:
    found = Recommender.load(folder, device="cpu")
    return found.recommend_from_histories([["a"]], 1, unknown="skip", on_empty="popularity", allow_short=True)


def _use_classifier(folder: Path) -> Any:
    found = classifiers.load_classifier(folder, device="cpu")
    return found.encoder(torch.zeros(2, *found.shape)), found.classes


RING = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
MODELS: dict[str, tuple[Any, Any]] = {
    "series": (_series, lambda folder: load_encoder(folder).represent(torch.ones(1, 4, 2))),
    "recommender": (_recommender, _use_recommender),
    "classifier": (_classifier, _use_classifier),
}
if installed("torch_geometric"):
    MODELS["graph"] = (_graph, lambda folder: load_graph_encoder(folder)(torch.ones(4, 3), RING))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of a model of every kind."""
    found = {}
    for kind, (save, _) in MODELS.items():
        folder = tmp_path_factory.mktemp("saved") / kind
        save(folder)
        found[kind] = {path.name: path.read_bytes() for path in folder.iterdir()}
    return found


@st.composite
def spoilt_weights(draw: st.DrawFn, fuzz: Any, content: bytes) -> bytes:
    """Other bytes, or other tensors."""
    if draw(st.booleans()):
        return bytes(draw(fuzz.spoilt_bytes(content)))
    tensors = dict(load_tensors(content))
    name = draw(st.sampled_from(sorted(tensors)))
    others = [
        *(tensors[name][:0], tensors[name].double(), tensors[name].flatten(), tensors[name].unsqueeze(0)),
        *(torch.full_like(tensors[name], -1), torch.full_like(tensors[name], 99), torch.zeros(0, 10**6)),
    ]
    tensors[name] = draw(st.sampled_from(others))
    if draw(st.booleans()):
        del tensors[draw(st.sampled_from(sorted(tensors)))]
    return save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})


@pytest.mark.parametrize("kind", MODELS)
@given(data=st.data())
def test_saved_models(fuzz: Any, saved: Any, kind: str, data: st.DataObject) -> None:
    """Description or weights of a saved model; the digest of the weights is made to fit, as who means harm would."""
    files = dict(saved[kind])
    weights = "model.safetensors"
    name = next(name for name in files if name != weights)
    if data.draw(st.booleans()):
        files[name] = data.draw(fuzz.spoilt_json(json.loads(files[name])))
    else:
        files[weights] = data.draw(spoilt_weights(fuzz, files[weights]))
        if data.draw(st.booleans()):
            digest = hashlib.blake2b(files[weights], digest_size=16).hexdigest()
            files[name] = json.dumps({**json.loads(files[name]), "weights": digest}).encode()
    fuzz.read(files, MODELS[kind][1], [fuzz.folder.name])


CHECKPOINT = {
    "step": 7,
    "fingerprint": {"method": "x", "seed": 0},
    "method": {"weight": torch.ones(3, 2), "bias": torch.zeros(3)},
    "optimizers": {
        "main": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    },
    "history": [{"step": 3.0, "val/loss": 0.5}],
    "memory_level": 0,
    "seconds": 1.5,
    "environment": {"threads": 1},
    "schema": 2,
}


def _saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


@given(data=st.data())
def test_checkpoints(fuzz: Any, data: st.DataObject) -> None:
    """Bytes of a checkpoint, or what somebody saved who knows the name of the file only."""
    value = fuzz.spoilt_value(CHECKPOINT)
    content = data.draw(
        st.one_of(value.map(_saved), value.map(_saved), fuzz.spoilt_bytes(_saved(CHECKPOINT)))
    )
    found = fuzz.read({"step-00000007.ckpt": content}, lambda folder: CheckpointStore(folder).load(7))
    if found is not None:
        assert isinstance(found, Checkpoint)
        assert found.step == 7
        assert isinstance(found.method, dict)
        assert isinstance(found.history, list)


@given(data=st.data())
def test_predictions(fuzz: Any, data: st.DataObject) -> None:
    """What a test got right."""
    arrays = {"cases": np.array("abc"), "predicted": np.arange(5), "right": np.arange(5) % 2 == 0}
    content = data.draw(fuzz.spoilt_npz(arrays))
    found = fuzz.read(
        {"predictions.npz": content}, lambda folder: TestPredictions.read(folder / "predictions.npz")
    )
    if found is not None:
        assert found.predicted.shape == found.right.shape
        assert found.predicted.dtype == np.int64
        assert found.right.ndim == 1


@given(data=st.data())
def test_ranks(fuzz: Any, data: st.DataObject) -> None:
    """The ranks of the targets of a test."""
    arrays = {"users": np.array("abc"), "unfiltered": np.arange(1, 6, dtype=np.int32)}
    arrays["filtered"] = arrays["unfiltered"]
    content = data.draw(fuzz.spoilt_npz(arrays))
    found = fuzz.read({"ranks.npz": content}, lambda folder: TestRanks.read(folder / "ranks.npz"))
    if found is not None:
        for protocol in ("", "_filtered"):
            values = found.values(f"ndcg_at_10{protocol}")
            assert values.shape == (len(found.ranks[""]),)
            assert ((values >= 0) & (values <= 1)).all()


@pytest.fixture(scope="session", params=[2, 4], ids="protocol{}".format)
def recbole_checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, load_as_recbole: Any
) -> bytes:
    """As RecBole writes it: weights, numbers, and the Config of the run as an object. It can be read."""
    from nearfar.interop.recbole import compat

    with compat():
        from recbole.config.configurator import Config

        config = Config.__new__(Config)
        config.__dict__.update(final_config_dict={"dim": 4, "device": torch.device("cpu")}, dataset="x")
        weights = OrderedDict(w=torch.ones(3, 2), b=torch.nn.Parameter(torch.zeros(3)))
        content = {
            "config": config,
            "epoch": 3,
            "best": np.float64(0.25),
            "state_dict": weights,
            "kinds": {1},
        }
        written = _saved(content, pickle_protocol=request.param)
    path = tmp_path_factory.mktemp("recbole") / "saved.pth"
    path.write_bytes(written)
    found = load_as_recbole(path)
    assert found["config"].final_config_dict == config.final_config_dict
    assert torch.equal(found["state_dict"]["w"], weights["w"])
    assert (found["best"], found["kinds"]) == (0.25, {1})
    return written


def _repacked(archive: bytes, name: str, content: bytes) -> bytes:
    """The archive with another file in it, its checksum right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w") as new:
        for each in old.namelist():
            new.writestr(each, content if each == name else old.read(each))
    return file.getvalue()


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@given(data=st.data())
def test_checkpoints_of_recbole(
    fuzz: Any, load_as_recbole: Any, recbole_checkpoint: bytes, data: st.DataObject
) -> None:
    """Bytes of the file, or of the pickle in it, the archive around it being whole."""
    content = recbole_checkpoint
    if data.draw(st.booleans()):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            content = _repacked(content, name, data.draw(fuzz.spoilt_bytes(archive.read(name))))
    else:
        content = data.draw(fuzz.spoilt_bytes(content))
    fuzz.read({"saved.pth": content}, lambda folder: load_as_recbole(folder / "saved.pth"))
