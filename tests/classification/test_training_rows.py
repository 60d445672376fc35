"""Which rows are learnt from and under which labels: long tail, noise, rows held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.classification.datasets import LabelledDataset
from nearfar.classification.settings import ImbalanceConfig, NoiseConfig
from nearfar.classification.training_rows import spoilt_name, training_rows
from nearfar.errors import ConfigError, DataError
from nearfar.labels import long_tail_counts


def settings(
    *,
    spoil: bool = True,
    imbalance: dict[str, Any] | None = None,
    noise: dict[str, Any] | None = None,
    validation: float = 0.0,
    seed: int = 1,
) -> dict[str, Any]:
    """Arguments, changed where told to."""
    found: dict[str, Any] = {"seed": seed, "validation": validation}
    if spoil:
        found["imbalance"] = ImbalanceConfig.model_validate({"ratio": 5.0, **(imbalance or {})})
        found["noise"] = NoiseConfig.model_validate({"rate": 0.3, **(noise or {})})
    return found


def dataset(
    sizes: tuple[int, ...] = (50, 50, 50, 50), largest: int | None = None, **more: Any
) -> LabelledDataset:
    """Rows whose only feature is their number, in random order."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    x, labels = torch.arange(len(y)).float()[:, None], torch.from_numpy(y)
    classes = tuple(range(len(sizes)))
    return LabelledDataset("toy", "a test", x, labels, x[:4], labels[:4], classes, largest=largest, **more)


def tensors(found: Any) -> list[Tensor]:
    return [found.rows, found.given, found.true, found.held, found.held_given]


@pytest.mark.parametrize("profile", ["exp", "step"])
def test_first_thinned_out_then_made_wrong(profile: Any) -> None:
    """True labels have the sizes of the profile; int(rate * n) of all labels are wrong."""
    data = dataset()
    found = training_rows(data, **settings(imbalance={"ratio": 5.0, "profile": profile}))
    assert found.true is not None
    assert torch.equal(found.true, data.y_train[found.rows])
    assert found.true.bincount().tolist() == long_tail_counts(50, 4, 5.0, profile).tolist()
    assert int((found.given != found.true).sum()) == int(0.3 * len(found.rows) + 1e-9)
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert torch.equal(found.counts(6), found.given.bincount(minlength=6))
    assert (len(found.held), len(found.held_given)) == (0, 0)


def test_the_largest_class_is_said_or_the_datas() -> None:
    """Settings go before what the data propose."""
    for data, largest, expected in ((None, None, 50), (20, None, 20), (20, 30, 30)):
        found = training_rows(dataset(largest=data), **settings(imbalance={"ratio": 5.0, "largest": largest}))
        assert found.true is not None
        assert int(found.true.bincount()[0]) == expected


def test_as_they_are() -> None:
    """Without spoiling labels are as given, and right ones stay the data's."""
    data = dataset()
    found = training_rows(data, **settings(spoil=False))
    assert torch.equal(found.rows, torch.arange(200))
    assert torch.equal(found.given, data.y_train)
    assert found.true is None
    true = (data.y_train + 1) % 4
    known = training_rows(dataset(true=true), **settings(spoil=False, validation=0.2))
    assert known.true is not None
    assert torch.equal(known.true, true[known.rows])


@pytest.mark.parametrize("spoil", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_rows_held_out(share: float, *, spoil: bool) -> None:
    """Of every given class the share, rounded down; together with the others they are the rows of before."""
    data = dataset((50, 20, 9, 3))
    told: dict[str, Any] = {"spoil": spoil, "imbalance": {"ratio": 1.0, "largest": 3}, "noise": {"rate": 0.0}}
    told |= {} if spoil else {"imbalance": {"ratio": 1.0}}
    whole = training_rows(data, **settings(**told))
    if share * int(whole.given.bincount().max()) < 1:
        with pytest.raises(
            DataError, match=rf"validation={share:g} of the largest class of 3 rows is none; raise it"
        ):
            training_rows(data, **settings(**told, validation=share))
        return
    found = training_rows(data, **settings(**told, validation=share))
    assert not set(found.rows.tolist()) & set(found.held.tolist())
    assert sorted([*found.rows.tolist(), *found.held.tolist()]) == sorted(whole.rows.tolist())
    expected = [int(share * n + 1e-9) for n in whole.given.bincount(minlength=4).tolist()]
    assert found.held_given.bincount(minlength=4).tolist() == expected
    given = dict(zip(whole.rows.tolist(), whole.given.tolist(), strict=True))
    assert [given[row] for row in found.held.tolist()] == found.held_given.tolist()
    assert [given[row] for row in found.rows.tolist()] == found.given.tolist()


def test_seeds() -> None:
    """The seed decides, and nothing else that is set; rows held out do not change who is wrong."""
    first = training_rows(dataset(), **settings(validation=0.2))
    again = training_rows(dataset(), **settings(validation=0.2))
    other = training_rows(dataset(), **settings(validation=0.2, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(again), strict=True))
    assert not torch.equal(first.rows, other.rows)
    whole = training_rows(dataset(), **settings())
    labels = dict(zip(whole.rows.tolist(), whole.given.tolist(), strict=True))
    assert [labels[row] for row in first.rows.tolist()] == first.given.tolist()


def test_labels_can_be_gone() -> None:
    """A class of one row whose label is made wrong is a class without rows; counts say so."""
    found = training_rows(
        dataset((6, 6)), **settings(imbalance={"ratio": 6.0}, noise={"rate": 0.9, "kind": "pair"})
    )
    assert found.counts(2).sum() == len(found.rows)
    assert len(found.counts(2)) == 2


def test_what_cannot_be() -> None:
    """Too few rows for the profile, a class without any."""
    with pytest.raises(DataError, match="largest: class 0 has 50 items and would need 60"):
        training_rows(dataset(), **settings(imbalance={"ratio": 5.0, "largest": 60}))
    with pytest.raises(DataError, match="class 1 has no items"):
        training_rows(dataset((5, 0, 5)), **settings())
    with pytest.raises(ConfigError, match="rate: at most .* is possible with kind='rolt-new'"):
        training_rows(dataset(), **settings(noise={"rate": 0.9, "kind": "rolt-new"}))


def test_sizes_that_belong_to_the_data() -> None:
    """Of every finer class, where no ratio is asked for; other rows under another seed; all rows without sizes."""
    plain = dataset((100, 100))
    # Two finer classes inside each, one with a quarter of its rows.
    fine = 2 * plain.y_train + (torch.arange(200) % 4 == 0).long()
    data = replace(plain, fine_train=fine, fine_test=fine[:4], sizes=(30, 10, 20, 5))
    natural = ImbalanceConfig(ratio=None)
    found = training_rows(data, natural, seed=1)
    assert found.fine is not None
    assert found.fine.bincount().tolist() == [30, 10, 20, 5]
    assert torch.equal(found.fine, fine[found.rows])
    assert torch.equal(found.given, data.y_train[found.rows])
    assert not torch.equal(training_rows(data, natural, seed=2).rows, found.rows)
    asked = training_rows(data, ImbalanceConfig(ratio=4), seed=1)
    assert asked.given.bincount().tolist() == [100, 25]
    assert len(training_rows(dataset(), natural, seed=1).rows) == 200
    held = training_rows(data, natural, seed=1, validation=0.2)
    assert held.fine is not None
    assert torch.equal(held.fine, fine[held.rows])


def test_names_and_fingerprints() -> None:
    """How data are spoilt belongs to them."""
    data = dataset()
    settings = [
        (None, None),
        (ImbalanceConfig(ratio=None), None),
        (ImbalanceConfig(ratio=4), None),
        (ImbalanceConfig(ratio=4, largest=20), None),
        (ImbalanceConfig(ratio=4, profile="step"), NoiseConfig(rate=0.2)),
        (None, NoiseConfig(rate=0.2, kind="sym")),
    ]
    names, digests = zip(*(spoilt_name(data, *one) for one in settings), strict=True)
    name = data.name
    assert names == (name, name, f"{name}-exp4", f"{name}-exp4", f"{name}-step4-imb0.2", f"{name}-sym0.2")
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5
