"""Long-tailed subsets: the class sizes papers report, and which rows are taken."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.errors import ConfigError, DataError
from nearfar.labels import head_classes, long_tail, long_tail_counts
from nearfar.runtime import numpy_generator


@pytest.mark.parametrize(
    ("ratio", "counts", "total"),
    [
        (10, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500], 20431),
        (50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100], 13996),
        (100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], 12406),
    ],
)
def test_cifar_10(ratio: float, counts: list[int], total: int) -> None:
    assert long_tail_counts(5000, 10, ratio).tolist() == counts
    assert sum(counts) == total


@pytest.mark.parametrize(("ratio", "smallest", "total"), [(10, 50, 19573), (50, 10, 12608), (100, 5, 10847)])
def test_cifar_100(ratio: float, smallest: int, total: int) -> None:
    counts = long_tail_counts(500, 100, ratio)
    assert (counts[0], counts[-1], counts.sum()) == (500, smallest, total)
    assert (np.diff(counts) <= 0).all()


def test_no_class_loses_an_item_to_rounding() -> None:
    for ratio in range(1, 101):
        for smallest in (1, 7, 50):
            counts = long_tail_counts(smallest * ratio, 10, ratio)
            assert (counts[0], counts[-1]) == (smallest * ratio, smallest)
            assert long_tail_counts(smallest * ratio, 10, ratio, "step")[-1] == smallest


def test_the_step_profile_and_small_cases() -> None:
    assert long_tail_counts(100, 5, 10, "step").tolist() == [100, 100, 10, 10, 10]
    assert long_tail_counts(100, 2, 10, "step").tolist() == [100, 10]
    for profile in ("exp", "step"):
        assert long_tail_counts(7, 1, 10, profile).tolist() == [7]
        assert long_tail_counts(7, 3, 1, profile).tolist() == [7, 7, 7]
        assert long_tail_counts(5, 3, 1e9, profile).min() == 1


@pytest.mark.parametrize("profile", ["exp", "step"])
def test_rows_are_a_seeded_choice_within_each_class(profile: str) -> None:
    labels = np.tile(np.arange(4), 50)
    rows = long_tail(labels, 8, profile=profile, largest=32, rng=numpy_generator(0, "a"))  # type: ignore[arg-type]
    expected = long_tail_counts(32, 4, 8, profile)  # type: ignore[arg-type]
    assert np.bincount(labels[rows]).tolist() == expected.tolist()
    assert (np.diff(rows) > 0).all()
    again = long_tail(labels, 8, profile=profile, largest=32, rng=numpy_generator(0, "a"))  # type: ignore[arg-type]
    other = long_tail(labels, 8, profile=profile, largest=32, rng=numpy_generator(1, "a"))  # type: ignore[arg-type]
    assert rows.tolist() == again.tolist() != other.tolist()
    # Every row of a class can be chosen.
    seen = {
        row for seed in range(60) for row in long_tail(labels, 8, largest=32, rng=numpy_generator(seed, "a"))
    }
    assert len(seen) == 200


def test_the_largest_possible_tail_is_the_default() -> None:
    rng = numpy_generator(0, "a")
    for sizes in ([40, 40, 40], [40, 11, 30], [40, 40, 1], [1, 1, 1], [9, 1000, 1000]):
        labels = np.repeat(np.arange(3), sizes)
        taken = np.bincount(labels[long_tail(labels, 4, rng=rng)])
        assert taken.tolist() == long_tail_counts(taken[0], 3, 4).tolist()
        assert taken[0] == sizes[0] or (long_tail_counts(taken[0] + 1, 3, 4) > sizes).any()
    balanced = np.repeat([0, 1], [30, 20])
    assert np.bincount(balanced[long_tail(balanced, 1, rng=rng)]).tolist() == [20, 20]


def test_bad_long_tails() -> None:
    rng = numpy_generator(0, "a")
    labels = np.repeat(np.arange(3), [10, 3, 10])
    with pytest.raises(
        DataError, match=r"class 1 has 3 items and would need 5 .* at most largest=7 is possible"
    ):
        long_tail(labels, 4, largest=10, rng=rng)
    with pytest.raises(DataError, match="class 0 has 10 items and would need 11"):
        long_tail(labels, 100, largest=11, rng=rng)
    with pytest.raises(DataError, match="class 1 has no items"):
        long_tail([0, 2], 4, rng=rng)
    with pytest.raises(DataError, match="no items to choose from"):
        long_tail([], 4, rng=rng)
    for ratio in (0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="ratio: a finite number of at least 1 expected"):
            long_tail(labels, ratio, rng=rng)
    with pytest.raises(ConfigError, match="'expo' is unknown; did you mean 'exp'"):
        long_tail_counts(10, 3, 4, "expo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1 item and 1 class expected, got 0, 3"):
        long_tail_counts(0, 3, 4)


@pytest.mark.parametrize(
    ("largest", "classes", "ratio", "heads", "share"),
    [
        (5000, 10, 100, 2, 0.645),
        (5000, 10, 10, 3, 0.581),
        (500, 100, 100, 15, None),
        (500, 100, 50, 17, None),
        (500, 100, 10, 26, None),
    ],
)
def test_heads_of_cifar(largest: int, classes: int, ratio: float, heads: int, share: float | None) -> None:
    counts = long_tail_counts(largest, classes, ratio)
    assert head_classes(counts).tolist() == list(range(heads))
    if share is not None:
        assert counts[:heads].sum() / counts.sum() == pytest.approx(share, abs=5e-4)


def test_heads_are_the_shortest_prefix() -> None:
    assert head_classes([5, 5, 5, 5, 5]).tolist() == [0, 1, 2]
    assert head_classes([5, 5, 5, 5]).tolist() == [0, 1]
    assert head_classes([3]).tolist() == [0]
    assert head_classes([1, 9, 0, 9]).tolist() == [1, 3]
    assert head_classes([0, 0]).tolist() == []
    assert head_classes([]).tolist() == []
    assert head_classes([4, 0, 4], 1.0).tolist() == [0, 2]
    assert head_classes([1] * 10, 0.3).tolist() == [0, 1, 2]
    assert head_classes([1] * 10, 0.7).tolist() == list(range(7))
    rng = numpy_generator(0, "counts")
    for _ in range(50):
        counts, mass = rng.integers(0, 20, 8), rng.uniform(0.05, 1)
        found = head_classes(counts, mass)
        assert counts[found].sum() >= mass * counts.sum() * (1 - 1e-9) > counts[found[:-1]].sum() or not len(
            found
        )
        assert set(counts[found].tolist()).isdisjoint({0})


def test_bad_heads() -> None:
    for mass in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"mass: a share in \(0, 1\] expected"):
            head_classes([1, 2], mass)
    with pytest.raises(DataError, match="counts: one number of items a class expected"):
        head_classes([1, -2])
