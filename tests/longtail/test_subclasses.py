"""Subclasses of all classes: sizes, streams of their own, planted parts found again, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.longtail import SubclassAssigner, find_subclasses
from nearfar.longtail.sbcl.config import ClassTemperatureConfig, SubclassConfig
from nearfar.runtime import generator

Make = Callable[..., Any]


def planted(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Class 0: four bundles of 15 directions; class 1: one of 20; class 2: 5 rows. Features, classes, bundles."""
    rng = generator(seed, "planted")
    sizes = [15, 15, 15, 15, 20, 5]
    bundle = torch.arange(6).repeat_interleave(torch.tensor(sizes))
    directions = torch.linalg.qr(torch.randn(16, 16, generator=rng))[0][:6]
    z = directions[bundle] + 0.05 * torch.randn(85, 16, generator=rng)
    classes = torch.tensor([0, 0, 0, 0, 1, 2])[bundle]
    order = torch.randperm(85, generator=rng)
    return z[order], classes[order], bundle[order]


@pytest.mark.parametrize("clustering", ["balanced", "plain"])
def test_planted_parts_are_found(clustering: Any) -> None:
    """Every subclass is one bundle, numbered within its class's range."""
    z, classes, bundle = planted()
    config = SubclassConfig(delta=15, clustering=clustering)
    best = 0.0
    for seed in range(5):  # a random start of plain k-means may be a bad one
        found = find_subclasses(z, classes, 3, subclasses=config, seed=seed)
        assert found.parts.tolist() == [4, 1, 1]
        assert found.sizes.sum() == 85
        for k, (first, count) in enumerate(zip(found.first, found.parts, strict=True)):
            assert set(found.ids[classes == k].tolist()) <= set(range(int(first), int(first + count)))
        pure = sum(int(torch.bincount(bundle[found.ids == s]).max()) for s in found.ids.unique())
        best = max(best, pure / 85)
        if clustering == "balanced":
            assert found.sizes.tolist() == [15, 15, 15, 15, 20, 5]
            assert pure == 85
    assert best == 1.0


def test_sizes_are_equal_to_within_one(blobs: Make) -> None:
    """Whatever the features."""
    for sizes in ((53, 11, 7), (100, 3), (1, 1, 40)):
        x, y = blobs(sizes)
        found = find_subclasses(x, y, len(sizes), subclasses=SubclassConfig(delta=6))
        for k, count in enumerate(found.parts.tolist()):
            own = torch.unique(found.ids[y == k], return_counts=True)[1]
            assert len(own) == count
            assert own.max() - own.min() <= 1


def test_a_class_does_not_notice_the_others(blobs: Make) -> None:
    """Moved, or of other numbers, they leave its subclasses as they were, to the bit."""
    x, y = blobs((60, 30, 10))
    config = SubclassConfig(delta=10)
    whole = find_subclasses(x, y, 3, subclasses=config, seed=3, number=2)
    moved = torch.where((y == 1)[:, None], -x, x)
    other = find_subclasses(moved, y, 3, subclasses=config, seed=3, number=2)
    assert torch.equal(whole.ids[y == 0], other.ids[y == 0])
    kept = y != 1
    fewer = find_subclasses(x[kept], y[kept], 3, subclasses=config, seed=3, number=2)
    assert fewer.parts.tolist() == [6, 0, 1]
    assert torch.equal(whole.ids[y == 0], fewer.ids[y[kept] == 0])


def test_equal_seeds_and_threads(blobs: Make) -> None:
    """The same with any number of threads; another update or seed draws other starts."""
    x, y = blobs((300, 40), seed=1)
    config = SubclassConfig(delta=10)
    first = find_subclasses(x, y, 2, subclasses=config)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert torch.equal(find_subclasses(x, y, 2, subclasses=config).ids, first.ids)
    finally:
        torch.set_num_threads(before)
    assert not torch.equal(find_subclasses(x, y, 2, subclasses=config, number=1).ids, first.ids)
    assert not torch.equal(find_subclasses(x, y, 2, subclasses=config, seed=1).ids, first.ids)


def test_permuted_rows_keep_whole_classes_and_temperatures(blobs: Make) -> None:
    """Spread and temperature do not depend on the order of rows."""
    x, y = blobs()
    order = torch.randperm(len(x), generator=generator(0, "order"))
    first, second = (find_subclasses(a, b, 3) for a, b in ((x, y), (x[order], y[order])))
    torch.testing.assert_close(first.temperatures, second.temperatures)
    assert first.parts.tolist() == second.parts.tolist()


def test_how_many_rows_moved(blobs: Make) -> None:
    """Other numbers for the same subclasses are no move; rows that changed places are."""
    x, y = blobs((40, 10))
    found = find_subclasses(x, y, 2, subclasses=SubclassConfig(delta=10))
    assert found.parts.tolist() == [4, 1]
    renamed = torch.tensor([2, 0, 3, 1, 4])[found.ids]
    assert found.moved(renamed) == 0
    first, second = (int((found.ids == s).nonzero()[0]) for s in (0, 1))
    swapped = renamed.clone()
    swapped[[first, second]] = swapped[[second, first]]
    assert found.moved(swapped) == pytest.approx(2 / 50)
    # From whole classes: all but the largest part has moved.
    assert found.moved(y) == pytest.approx(30 / 50)


def test_cosines_within_and_between() -> None:
    """By loops over rows and pairs of centres."""
    z, classes, _ = planted()
    found = find_subclasses(z, classes, 3, subclasses=SubclassConfig(delta=15))
    unit = (z / z.norm(dim=1, keepdim=True)).double().numpy()
    centers = np.stack([unit[(found.ids == s).numpy()].mean(0) for s in range(6)])
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    within = np.mean([unit[i] @ centers[int(s)] for i, s in enumerate(found.ids)])
    assert found.within == pytest.approx(within, abs=1e-6)
    pairs = [centers[a] @ centers[b] for a in range(4) for b in range(a)]
    assert found.between() == pytest.approx(np.mean(pairs), abs=1e-6)


def test_empty_classes_single_rows_and_zero_vectors() -> None:
    """No row is no subclass; one row is one; rows of zeros belong somewhere, and nothing is NaN."""
    z = torch.zeros(26, 3)
    z[:12] = torch.randn(12, 3, generator=generator(0, "z"))
    y = torch.tensor([0] * 25 + [2])
    found = find_subclasses(z, y, 4, subclasses=SubclassConfig(delta=5))
    assert found.parts.tolist() == [5, 0, 1, 0]
    assert found.sizes.tolist() == [5, 5, 5, 5, 5, 1]
    assert found.temperatures.isfinite().all()
    assert found.temperatures[[1, 2, 3]].tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite(value: float) -> None:
    """An error, never a loop."""
    z = torch.randn(30, 3, generator=generator(0, "z"))
    z[17, 1] = value
    with pytest.raises(DataError, match="z: row 17 is not finite"):
        find_subclasses(z, [0] * 30, 1)


def test_labels_that_do_not_go_with_the_features() -> None:
    z = torch.randn(4, 3, generator=generator(0, "z"))
    with pytest.raises(DataError, match="labels: one for each of 4 rows expected, got 3"):
        find_subclasses(z, [0, 0, 0], 1)
    with pytest.raises(DataError, match=r"labels: class codes .*encode_labels"):
        find_subclasses(z, ["a", "a", "b", "b"], 2)
    with pytest.raises(DataError, match="labels: class codes from 0 and below 2 expected, got 5 in row 1"):
        find_subclasses(z, [0, 5, 0, 1], 2)


# The assigner ----------------------------------------------------------------------------------------------------


def test_the_assigner_goes_on_from_its_state(blobs: Make) -> None:
    """Saved after any update, the next ones are those of an assigner that was not."""
    x, y = blobs((60, 20))
    settings: dict[str, Any] = {"delta": 10, "seed": 4}
    whole = SubclassAssigner(**settings)
    drift = torch.randn(3, len(x), 4, generator=generator(0, "drift"))
    expected = [whole.update(x + 0.3 * d, y).ids for d in drift]
    halved = SubclassAssigner(**settings)
    halved.update(x + 0.3 * drift[0], y)
    other = SubclassAssigner(**settings).load_state_dict(halved.state_dict())
    assert other.updates == 1
    for d, ids in zip(drift[1:], expected[1:], strict=True):
        assert torch.equal(other.update(x + 0.3 * d, y).ids, ids)


def test_a_warm_start_stays_nearer(blobs: Make) -> None:
    """Features that barely moved leave subclasses almost as they were; a new start does not."""
    x, y = blobs((200, 20), seed=2)
    moved = {}
    for warm in (True, False):
        assigner = SubclassAssigner(delta=10, warm_start=warm)
        before = assigner.update(x, y).ids
        moved[warm] = assigner.update(x + 1e-4, y).moved(before)
    assert moved[True] < 0.1 < moved[False] / 2


def test_the_assigner_with_other_formulas(blobs: Make) -> None:
    """Its settings are those of the function."""
    x, y = blobs((60, 20))
    assigner = SubclassAssigner(
        7, "ceil", temperature=0.2, class_temperature="code", alpha=3.0, clustering="plain", seed=9
    )
    expected = find_subclasses(
        x,
        y,
        2,
        subclasses=SubclassConfig(delta=7, rounding="ceil", clustering="plain"),
        temperatures=ClassTemperatureConfig(kind="code", alpha=3.0),
        temperature=0.2,
        seed=9,
    )
    found = assigner.update(x, y)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.temperatures, expected.temperatures)
