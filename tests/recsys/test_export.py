"""Exported graphs give what the recommender gives, for every number of users and length, from the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from nearfar.errors import ConfigError
from nearfar.optional import installed
from nearfar.recsys import (
    Interactions,
    Popularity,
    PopularityConfig,
    Recommender,
    SASRec,
    SASRecConfig,
    export_graphs,
    leave_one_out,
)
from nearfar.recsys.datasets import Dataset
from nearfar.recsys.export import OUTPUTS, trace
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.recsys.windows import pad_histories
from nearfar.runtime import generator, numpy_generator

MAX_LENGTH, NUM_ITEMS = 12, 40
# Users and lengths: one, the model's longest (where a slice of the positions is the whole table), between, many.
SIZES = [(1, 1), (1, MAX_LENGTH), (2, MAX_LENGTH), (5, MAX_LENGTH - 1), (3, 7), (2, 2), (300, 9)]


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    """A recommender of integer ids with large random weights, so that mistakes show."""
    rng = numpy_generator(0, "export")
    users = np.repeat(np.arange(60), 8)
    items = 100 + np.concatenate([rng.permutation(NUM_ITEMS)[:8] for _ in range(60)])
    items[:NUM_ITEMS] = 100 + np.arange(NUM_ITEMS)
    data = Interactions.from_columns(users, items, np.tile(np.arange(8), 60))
    split = leave_one_out(data)
    method = SASRec(SASRecConfig(dim=16, inner_dim=32, max_length=MAX_LENGTH, device="cpu"), split)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(1, "export")), alpha=0.3)
        method.scorer.item.weight[0] = 0
    return Recommender.from_method(method, Dataset("toy", "toy", data))


@pytest.fixture(scope="module")
def exported(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its graphs."""
    return export_graphs(recommender, tmp_path_factory.mktemp("export") / "there" / "graphs")


def histories(users: int, length: int) -> list[NDArray[np.int64]]:
    """The first as long as asked for, the others at most."""
    rng = numpy_generator(2, "histories", users, length)
    lengths = [length, *rng.integers(1, length + 1, size=users - 1)]
    return [rng.integers(1, NUM_ITEMS + 1, size=int(n)) for n in lengths]


def worst(run: Callable[[Tensor, Tensor], Tensor], encoder: SASRecEncoder, output: str) -> float:
    """Largest difference to scoring in this process over all sizes, with and without padding at the end."""
    found = []
    for users, length in SIZES:
        rows = histories(users, length)
        items, lengths = pad_histories(rows, MAX_LENGTH)
        assert items.shape == (users, length)
        expected = encoder.score(rows) if output == "scores" else encoder.embed(rows)
        answer = run(items, lengths - 1)
        assert answer.shape == expected.shape
        assert answer.dtype == torch.float32
        assert not answer.requires_grad
        found.append(float((answer - expected).abs().max()))
        wider = torch.nn.functional.pad(items, (0, MAX_LENGTH - length))
        # Sums over more positions are rounded otherwise.
        assert torch.allclose(run(wider, lengths - 1), expected, rtol=0, atol=1e-5)
    return max(found)


def test_programs_from_their_files_equal_the_recommender(recommender: Recommender, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "graphs.json",
        "item_vectors.safetensors",
        "scores.pt2",
        "vectors.pt2",
    }
    assert [path.name for path in exported.parent.iterdir()] == ["graphs"], "nothing temporary is left"
    encoder = recommender.scorer
    assert isinstance(encoder, SASRecEncoder)
    scores = torch.export.load(exported / "scores.pt2").module()
    vectors = torch.export.load(exported / "vectors.pt2").module()
    assert worst(scores, encoder, "scores") < 1e-6
    assert worst(vectors, encoder, "vectors") < 1e-6
    assert encoder.score(histories(5, 9)).abs().max() > 1, "differences would be too small to see"


def test_what_lies_beside_the_graphs_answers_like_the_recommender(
    recommender: Recommender, exported: Path
) -> None:
    """A server that knows nothing of nearfar: vocabulary, user vector, inner products with the item vectors."""
    description = json.loads((exported / "graphs.json").read_text(encoding="utf-8"))
    item_ids = description["item_ids"]
    assert item_ids == list(range(100, 140)), "ids keep their type"
    index = {raw: place + 1 for place, raw in enumerate(item_ids)}
    vectors = load_file(exported / "item_vectors.safetensors")["item_vectors"]
    assert vectors.shape == (NUM_ITEMS, 16)
    history = [103, 120, 101]
    items = torch.tensor([[index[raw] for raw in history]])
    user = torch.export.load(exported / description["graphs"]["vectors"]).module()(items, torch.tensor([2]))
    best = (user @ vectors.T).topk(4).indices[0]
    expected = recommender.recommend_from_histories([history], k=4, exclude_seen=False)
    assert [item_ids[place] for place in best] == expected["item"].tolist()


@pytest.mark.parametrize("max_length", [2, 3])
def test_short_models(max_length: int) -> None:
    """The example of the trace is as long as the model allows; other lengths must still work."""
    encoder = SASRecEncoder(9, max_length=max_length, dim=8, inner_dim=16, generator=generator(0, "init"))
    program = trace(encoder.train(), "vectors").module()
    assert encoder.training, "as it was"
    encoder.eval()
    for length in range(1, max_length + 1):
        rows = [np.arange(1, length + 1), np.array([4])]
        items, lengths = pad_histories(rows, max_length)
        assert torch.equal(program(items, lengths - 1), encoder.embed(rows))


def test_histories_longer_than_the_model_are_refused() -> None:
    encoder = SASRecEncoder(9, max_length=4, dim=8, inner_dim=16, generator=generator(0, "init"))
    program = trace(encoder).module()
    with pytest.raises(Exception, match="<= 4|constraint|Guard|max"):
        program(torch.ones(1, 5, dtype=torch.int64), torch.tensor([4]))


def test_refusals_leave_nothing(recommender: Recommender, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="full is not empty; name a new folder"):
        export_graphs(recommender, tmp_path / "full")
    with pytest.raises(ConfigError, match="kind: torch or onnx expected, got 'tflite'"):
        export_graphs(recommender, tmp_path / "new", "tflite")  # type: ignore[arg-type]
    method = Popularity(PopularityConfig(), leave_one_out(recommender.data))
    counts = Recommender.from_method(method, Dataset("toy", "toy", recommender.data))
    with pytest.raises(ConfigError, match="a model of type ItemCounts has no graph"):
        export_graphs(counts, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_an_interrupted_export_leaves_nothing(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nearfar.recsys.export.trace", lambda *_: None)
    monkeypatch.setattr("nearfar.recsys.export._write", lambda _, path, __: path.write_bytes(b"graph"))
    monkeypatch.setattr("nearfar.recsys.export.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        export_graphs(recommender, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(installed("onnx") and installed("onnxscript"), reason="both are installed")
def test_the_error_without_onnx_names_the_extra(recommender: Recommender, tmp_path: Path) -> None:
    from nearfar.errors import MissingDependencyError

    with pytest.raises(MissingDependencyError, match=r'pip install "nearfar\[onnx\]"'):
        export_graphs(recommender, tmp_path / "new", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_onnx_equals_the_recommender(recommender: Recommender, tmp_path: Path) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    import onnxruntime  # type: ignore[import-not-found,unused-ignore]

    folder = export_graphs(recommender, tmp_path / "graphs", "onnx")
    assert {path.name for path in folder.iterdir()} == {
        "graphs.json",
        "item_vectors.safetensors",
        "scores.onnx",
        "vectors.onnx",
    }
    encoder = recommender.scorer
    assert isinstance(encoder, SASRecEncoder)
    for output in OUTPUTS:
        session = onnxruntime.InferenceSession(folder / f"{output}.onnx", providers=["CPUExecutionProvider"])

        def run(items: Tensor, last: Tensor, session: onnxruntime.InferenceSession = session) -> Tensor:
            return torch.from_numpy(session.run(None, {"items": items.numpy(), "last": last.numpy()})[0])

        assert worst(run, encoder, output) < 1e-5, output
