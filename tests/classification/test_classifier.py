"""A trained classifier in memory, in a folder and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearfar.classification.classifier import TrainedClassifier, load_classifier, save_classifier
from nearfar.encoders import Standardised, build_encoder
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator, initial_weights


def classifier(
    name: str = "mlp",
    shape: tuple[int, ...] = (4,),
    classes: tuple[Any, ...] = ("a", "b", "c"),
    *,
    scaled: bool = False,
) -> TrainedClassifier:
    """Untrained; its weights are those of a seed."""
    encoder: Any = build_encoder(name, shape, generator=generator(0, "encoder"))
    if scaled:
        encoder = Standardised(encoder, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    with initial_weights(0):
        head = nn.Linear(encoder.dim, len(classes))
    return TrainedClassifier(encoder, head, classes, shape)


def rows(*shape: int) -> Tensor:
    return torch.rand(9, *shape, generator=generator(0, "rows"))


@pytest.mark.parametrize(
    ("name", "shape", "scaled"),
    [
        ("mlp", (4,), False),
        ("identity", (4,), False),
        ("small_cnn", (1, 8, 8), False),
        ("small_cnn", (3, 8, 8), True),
        ("resnet32", (3, 16, 16), True),
    ],
)
def test_what_comes_back_is_what_was_saved(
    tmp_path: Path, name: str, shape: tuple[int, ...], *, scaled: bool
) -> None:
    """Classes, probabilities and representations, bit by bit."""
    made, x = classifier(name, shape, scaled=scaled), rows(*shape)
    save_classifier(made, name, tmp_path / "model")
    found = load_classifier(tmp_path / "model", "cpu")
    assert (found.classes, found.shape) == (made.classes, made.shape)
    assert not found.encoder.training
    assert not found.head.training
    assert torch.equal(found.represent(x), made.represent(x))
    assert np.array_equal(found.predict_proba(x), made.predict_proba(x))
    assert found.predict(x).tolist() == made.predict(x).tolist()


def test_predictions_by_hand() -> None:
    """Softmax of the head of the representation, and the class of its largest number."""
    made, x = classifier(), rows(4)
    with torch.no_grad():
        z = made.encoder(x)
        odds = made.head(z).exp()
    torch.testing.assert_close(made.represent(x), z)
    np.testing.assert_allclose(made.predict_proba(x), odds / odds.sum(1, keepdim=True), rtol=1e-5)
    assert made.predict(x).tolist() == [made.classes[k] for k in odds.argmax(1).tolist()]


@pytest.mark.parametrize(
    "classes",
    [(3, 1, 2), (0.5, 1.5, 2.5), (True, False), (np.int64(4), np.int64(7))],
    ids=["int", "float", "bool", "np"],
)
def test_classes_of_many_types(tmp_path: Path, classes: tuple[Any, ...]) -> None:
    """They are the same afterwards."""
    made = classifier(classes=classes)
    save_classifier(made, "mlp", tmp_path)
    found = load_classifier(tmp_path, "cpu")
    assert found.classes == classes
    assert found.predict(rows(4)).tolist() == made.predict(rows(4)).tolist()


def test_rows_in_many_forms() -> None:
    """Lists, arrays and tensors of either precision, bytes of images."""
    made, x = classifier(), rows(4)
    expected = made.predict_proba(x)
    for form in (x.tolist(), x.numpy(), x.double(), x.double().numpy()):
        np.testing.assert_allclose(made.predict_proba(form), expected, rtol=1e-5)
    images = classifier("small_cnn", (1, 8, 8))
    whole = (rows(1, 8, 8) * 255).round().to(torch.uint8)
    np.testing.assert_allclose(images.predict_proba(whole), images.predict_proba(whole / 255), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 5), r"x: rows of shape \(4,\) expected, as trained on, got \(5,\)"),
        (torch.tensor([[0.0, 1.0, torch.nan, 0.0]]), r"features.*nan"),
        (torch.zeros(0, 4), r"features: shape \(N, D\) with at least one row"),
        (torch.zeros(2, 1, 8, 8), r"features: shape \(N, D\)"),
    ],
    ids=["another width", "nan", "no rows", "images"],
)
def test_rows_that_cannot_be(x: Tensor, message: str) -> None:
    """Refused before anything is computed."""
    made = classifier()
    for method in (made.predict, made.predict_proba, made.represent):
        with pytest.raises(DataError, match=message):
            method(x)


def test_images_of_another_size_are_refused() -> None:
    """A network that takes any size has still seen one only."""
    with pytest.raises(
        DataError, match=r"rows of shape \(1, 8, 8\) expected, as trained on, got \(1, 9, 9\)"
    ):
        classifier("small_cnn", (1, 8, 8)).predict(torch.zeros(1, 1, 9, 9))


def test_folders_that_are_none(tmp_path: Path) -> None:
    """Nothing there, another model, a damaged one, a description that does not fit."""
    with pytest.raises(DataError, match="is not a saved classifier"):
        load_classifier(tmp_path / "nowhere")
    save_classifier(classifier(), "mlp", tmp_path / "model")
    path = tmp_path / "model" / "classifier.json"
    good = path.read_text()
    for name, value in (
        ("encoder", "nothing"),
        ("shape", [5]),
        ("classes", ["a"]),
        ("standardised", [[1.0], [1.0]]),
    ):
        path.write_text(json.dumps({**json.loads(good), name: value}))
        with pytest.raises(DataError, match="is not a saved classifier"):
            load_classifier(tmp_path / "model", "cpu")
    for name in ("encoder", "shape", "classes", "standardised"):
        path.write_text(json.dumps({key: value for key, value in json.loads(good).items() if key != name}))
        with pytest.raises(DataError, match=f"is not a saved classifier: '{name}'"):
            load_classifier(tmp_path / "model", "cpu")
    path.write_text(good)
    with pytest.raises(ConfigError, match="device"):
        load_classifier(tmp_path / "model", "abacus")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="damaged"):
        load_classifier(tmp_path / "model", "cpu")


def test_other_files_are_not_written_over(tmp_path: Path) -> None:
    """A folder with something else in it is somebody's."""
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(DataError, match="is not empty"):
        save_classifier(classifier(), "mlp", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
