"""Hidden classes: planted ones are found, collapsed ones are not, and what cannot be measured is left out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels import purity
from nearfar.longtail.hidden_classes import fine_probe, hidden_nmi, subclass_purity

COARSE = torch.tensor([0] * 60 + [1] * 40 + [2] * 15)
FINE = torch.tensor([0, 1, 2] * 20 + [3, 4] * 20 + [5] * 15)


def planted(spread: float, seed: int = 0) -> Tensor:
    """Fine classes around axes of their own."""
    noise = torch.randn(len(FINE), 8, generator=torch.Generator().manual_seed(seed))
    return torch.eye(6, 8)[FINE] + spread * noise


def test_planted_classes_are_found() -> None:
    found = hidden_nmi(planted(0.05), COARSE, FINE)
    assert found == {"mean": 1.0, "by_class": {0: 1.0, 1: 1.0}}  # class 2 hides nothing
    lengths = torch.linspace(0.1, 30, len(FINE))[:, None]
    assert hidden_nmi(planted(0.05) * lengths, COARSE, FINE) == found


def test_collapsed_classes_are_not() -> None:
    collapsed = torch.eye(3, 8)[COARSE] + 0.05 * torch.randn(
        len(COARSE), 8, generator=torch.Generator().manual_seed(0)
    )
    found = hidden_nmi(collapsed, COARSE, FINE)
    assert found["mean"] is not None
    assert found["mean"] < 0.2


def test_the_mean_counts_rows() -> None:
    features = planted(0.05)
    features[60:100] = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))  # class 1: noise
    found = hidden_nmi(features, COARSE, FINE)
    first, second = found["by_class"][0], found["by_class"][1]
    assert (first, second < 0.4) == (1.0, True)
    assert found["mean"] == pytest.approx((60 * first + 40 * second) / 100)


def test_against_scikit_learn() -> None:
    """Independent starts agree where the clusters are plain, whatever they are called."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    features = planted(0.25)
    found = hidden_nmi(features, COARSE, FINE, seed=3)
    for k in (0, 1):
        own = torch.eq(COARSE, k).numpy()
        unit = (features / features.norm(dim=1, keepdim=True)).double().numpy()[own]
        expected = KMeans(3 - k, n_init=50, random_state=0).fit_predict(unit)
        assert found["by_class"][k] == pytest.approx(
            normalized_mutual_info_score(FINE.numpy()[own], expected), abs=0.02
        )


def test_the_seed_decides_and_classes_do_not_notice_each_other() -> None:
    noise = torch.randn(len(FINE), 8, generator=torch.Generator().manual_seed(4))
    first = hidden_nmi(noise, COARSE, FINE, seed=1)
    assert hidden_nmi(noise.numpy(), COARSE.tolist(), FINE.numpy(), seed=1) == first
    own = COARSE == 1
    alone = hidden_nmi(noise[own], COARSE[own], FINE[own], seed=1)
    assert alone["by_class"] == {1: first["by_class"][1]}


def test_constant_features_and_zeros_tell_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for features in (torch.ones(115, 4), torch.zeros(115, 4)):
            found = hidden_nmi(features, COARSE, FINE)
            assert found == {"mean": 0.0, "by_class": {0: 0.0, 1: 0.0}}
    some = planted(0.05)
    some[0] = 0
    found = hidden_nmi(some, COARSE, FINE)
    assert found["mean"] is not None
    assert 0.9 < found["mean"] < 1


def test_very_small_features_have_a_direction() -> None:
    assert hidden_nmi(planted(0.05) * 1e-25, COARSE, FINE)["mean"] == 1.0


def test_what_cannot_be_measured_is_left_out() -> None:
    assert hidden_nmi(planted(0.1), FINE, FINE) == {"mean": None, "by_class": {}}
    few = torch.tensor([0, 1, 2, 5, 6])  # three rows of three classes; five of three
    assert hidden_nmi(planted(0.1)[few], [0] * 5, [0, 1, 2, 0, 1])["by_class"] == {}
    six = torch.tensor([0, 1, 2, 3, 4, 5])
    assert list(hidden_nmi(planted(0.1)[six], [4] * 6, FINE[six])["by_class"]) == [4]
    assert hidden_nmi(torch.zeros(0, 3), [], []) == {"mean": None, "by_class": {}}


def test_fine_probe() -> None:
    train, test = planted(0.3, seed=5), planted(0.3, seed=6)
    found = fine_probe(train, FINE, test, FINE)
    assert found["balanced_accuracy"] > 0.8
    collapsed = torch.eye(3, 8)[COARSE]
    lost = fine_probe(collapsed, FINE, collapsed, FINE)
    # One guess for each coarse class.
    assert lost["balanced_accuracy"] == pytest.approx(3 / 6)


def test_fine_probe_counts_rows_and_classes() -> None:
    train = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    test = torch.tensor([[0.0], [0.0], [0.1], [5.0], [5.0]])
    found = fine_probe(train, [0, 0, 1, 1], test, [0, 0, 0, 1, 0])
    assert found == {"accuracy": 0.8, "balanced_accuracy": pytest.approx((3 / 4 + 1) / 2)}
    unseen = fine_probe(train, [0, 0, 1, 1], test, [0, 0, 0, 1, 7])
    assert unseen == {"accuracy": 0.8, "balanced_accuracy": pytest.approx(2 / 3)}


@pytest.mark.parametrize("seed", range(5))
def test_subclass_purity_against_purity_of_majorities(seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    parts, fine = rng.integers(0, 7, 60), rng.integers(0, 5, 60)
    majority = np.array([np.bincount(fine[parts == part], minlength=5).argmax() for part in range(7)])
    assert subclass_purity(parts, fine) == pytest.approx(purity(fine, majority[parts]).overall)


def test_subclass_purity_of_the_extremes() -> None:
    assert subclass_purity(range(115), FINE) == 1.0
    assert subclass_purity(FINE + 10, FINE) == 1.0
    assert subclass_purity([0] * 115, FINE) == pytest.approx(20 / 115)


def test_wrong_data() -> None:
    x = planted(0.1)
    holed = x.clone()
    holed[2, 0] = torch.inf
    cases: list[tuple[Any, str]] = [
        (lambda: hidden_nmi(holed, COARSE, FINE), "features: row 2 is not finite"),
        (lambda: hidden_nmi(x, COARSE[1:], FINE), "coarse: one label for each of 115 rows expected, got 114"),
        (lambda: hidden_nmi(x, COARSE, FINE[1:]), "fine: one label for each of 115 rows expected, got 114"),
        (lambda: hidden_nmi(x, COARSE, ["a"] * 115), "fine: class codes"),
        (lambda: fine_probe(x, FINE, x[:, 1:], FINE), "test_features: torch.float32 with 8 columns expected"),
        (lambda: fine_probe(x, FINE, x.double(), FINE), "test_features: torch.float32 with 8 columns"),
        (lambda: fine_probe(x, FINE, x[:0], []), "test_features: no row"),
        (lambda: fine_probe(x[:0], [], x, FINE), "features: no row"),
        (lambda: fine_probe(x, FINE, x, FINE[1:]), "test_fine: one label"),
        (lambda: subclass_purity([0, 1], [0]), "fine: one label for each of 2 rows expected, got 1"),
        (lambda: subclass_purity([], []), "subclasses: no row"),
        (lambda: subclass_purity([-1], [0]), "subclasses: class codes"),
    ]
    for call, message in cases:
        with pytest.raises(DataError, match=message):
            call()
