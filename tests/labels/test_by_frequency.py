"""Metrics by frequency against a loop, and what is no number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.errors import ConfigError, DataError
from nearfar.labels.accuracy import accuracy_by_frequency
from nearfar.labels.by_frequency import by_frequency


def test_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    values, frequency = rng.normal(size=200), rng.integers(0, 60, 200)
    values[rng.integers(0, 200, 20)] = np.nan
    groups: dict[str, list[float]] = {"many": [], "medium": [], "few": []}
    for value, often in zip(values.tolist(), frequency.tolist(), strict=True):
        if not math.isnan(value):
            groups["few" if often < 10 else "many" if often > 40 else "medium"].append(value)
    expected = {name: math.fsum(found) / len(found) for name, found in groups.items()}
    assert by_frequency(values, frequency, bounds=(10, 40)) == pytest.approx(expected)
    tensors = torch.from_numpy(values), torch.from_numpy(frequency)
    assert by_frequency(*tensors, bounds=(10, 40)) == pytest.approx(expected)


def test_bounds_are_medium_and_empty_groups_are_left_out() -> None:
    assert by_frequency([1, 2, 3, 4], [19, 20, 100, 101]) == {"many": 4.0, "medium": 2.5, "few": 1.0}
    assert by_frequency([True, False], [1, 2]) == {"few": 0.5}
    assert by_frequency([math.nan, 1.0], [500, 1]) == {"few": 1.0}
    assert by_frequency([], []) == {}


def test_groups_are_those_of_accuracy_by_frequency() -> None:
    counts, true = np.array([500, 101, 100, 20, 19]), np.arange(5).repeat(4)
    predicted = np.random.default_rng(1).integers(0, 5, 20)
    expected = accuracy_by_frequency(true, predicted, counts)
    assert by_frequency(true == predicted, counts[true]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments", "options"),
    [
        (ConfigError, "bounds: few <= many", ([1.0], [1]), {"bounds": (5, 2)}),
        (ConfigError, "bounds: few <= many", ([1.0], [1]), {"bounds": (math.nan, 2)}),
        (DataError, "values: numbers", (["a"], [1]), {}),
        (DataError, "values: .* got .* shape", (np.ones((2, 2)), [1, 2]), {}),
        (DataError, "frequency: 2 numbers expected", ([1.0, 2.0], [1]), {}),
        (DataError, "frequency: numbers of 0 or more expected, got -1", ([1.0, 2.0], [3, -1]), {}),
        (DataError, "frequency: numbers of 0 or more expected, got nan", ([1.0], [math.nan]), {}),
    ],
)
def test_bad_arguments_are_named(
    error: type[ValueError], message: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        by_frequency(*arguments, **options)
