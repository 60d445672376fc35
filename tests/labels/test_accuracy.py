"""Accuracies over classes against scikit-learn and by hand; purity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.labels import accuracy_by_frequency, balanced_accuracy, purity, recall_by_class
from nearfar.runtime import numpy_generator


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = numpy_generator(0, "labels")
    true, predicted = rng.integers(0, 6, 200), rng.integers(0, 6, 200)
    assert balanced_accuracy(true, predicted) == pytest.approx(
        metrics.balanced_accuracy_score(true, predicted)
    )
    recalls = metrics.recall_score(true, predicted, average=None)
    assert list(recall_by_class(true, predicted).values()) == pytest.approx(recalls)
    tensors = torch.from_numpy(true), torch.from_numpy(predicted)
    assert balanced_accuracy(*tensors) == balanced_accuracy(true, predicted)


def test_classes_that_do_not_occur_do_not_count() -> None:
    assert recall_by_class([0, 3, 3], [0, 0, 3]) == {0: 1.0, 3: 0.5}
    assert recall_by_class([0, 0], [7, 0]) == {0: 0.5}
    assert balanced_accuracy([0, 3, 3], [0, 0, 3]) == 0.75
    assert recall_by_class([], []) == {}


def test_groups_by_training_items() -> None:
    counts = [101, 100, 20, 19, 0]
    true, predicted = [0, 1, 2, 3, 4, 4], [0, 1, 0, 3, 4, 0]
    assert accuracy_by_frequency(true, predicted, counts) == {"many": 1.0, "medium": 0.5, "few": 0.75}
    assert accuracy_by_frequency([1, 2], [1, 1], torch.tensor(counts)) == {"medium": 0.5}
    assert accuracy_by_frequency(true, predicted, counts, many=0, few=1) == {"many": 0.75, "few": 0.5}
    # On a balanced test set the groups are accuracies of items.
    rng = numpy_generator(0, "labels")
    labels, guess, sizes = np.repeat(np.arange(9), 20), rng.integers(0, 9, 180), rng.integers(0, 200, 9)
    group = sizes[labels] > 100
    found = accuracy_by_frequency(labels, guess, sizes)["many"]
    assert found == pytest.approx((labels == guess)[group].mean())


def test_bad_accuracies() -> None:
    with pytest.raises(DataError, match="predicted: 2 labels expected"):
        balanced_accuracy([0, 1], [0])
    with pytest.raises(DataError, match="true: no items to measure accuracy on"):
        balanced_accuracy([], [])
    with pytest.raises(DataError, match="true: class codes from 0 and below 1 expected, got 1"):
        accuracy_by_frequency([0, 1], [0, 0], [5])
    with pytest.raises(ConfigError, match="few: at most many"):
        accuracy_by_frequency([0], [0], [5], many=3, few=5)


def test_purity_by_hand() -> None:
    true, given = [0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    found = purity(true, given)
    assert (found.share_kept, found.overall, found.subset) == (1.0, 4 / 6, None)
    assert found.by_class == {0: 0.5, 1: 2 / 3, 2: 1.0}
    kept = torch.tensor([True, False, True, True, False, False])
    found = purity(torch.tensor(true), torch.tensor(given), kept, subset=[1, 2])
    assert (found.share_kept, found.overall, found.subset) == (0.5, 1.0, 1.0)
    assert found.by_class == {0: 1.0, 1: 1.0}
    assert purity(true, given, kept, subset=[2]).subset is None


def test_purity_of_nothing() -> None:
    found = purity([0, 1], [0, 1], [False, False], subset=[0])
    assert (found.share_kept, found.overall, found.by_class, found.subset) == (0.0, None, {}, None)
    assert purity([], []).share_kept == 0.0


def test_bad_purity() -> None:
    with pytest.raises(DataError, match="two label arrays and a mask of one length expected"):
        purity([0, 1], [0])
    with pytest.raises(DataError, match="of int64"):
        purity([0, 1], [0, 1], [0, 1])
