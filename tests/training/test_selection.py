"""Which validation is chosen, and that whoever saves the best so far has it."""

from __future__ import annotations

import math
import random

import pytest

from nearfar.config import SelectionConfig
from nearfar.errors import ConfigError
from nearfar.training.selection import best_step, exhausted


def history(*errors: float) -> list[dict[str, float]]:
    return [{"step": 10 * i, "val/error": error} for i, error in enumerate(errors)]


def config(tolerance: float = 0.0, patience: int | None = None) -> SelectionConfig:
    return SelectionConfig(metric="val/error", mode="min", tolerance=tolerance, patience=patience)


def test_the_first_of_the_best_without_a_tolerance() -> None:
    assert best_step([], config()) is None
    assert best_step(history(0.3, 0.1, 0.1, 0.2), config()) == 10
    assert best_step(history(math.nan, 0.5, math.nan), config()) == 10
    # However small the gain: a step that was passed over may be gone.
    assert best_step(history(0.5, 0.5 - 6e-13, 0.5 - 12e-13), config()) == 20


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ((0.02, 0.01, 0.03), 0),  # nothing but noise: as it was at the start
        ((0.04, 0.02, 0.03), 0),  # 1 of 50 apart counts as equal, however it is rounded
        ((0.2, 0.02, 0.01), 10),  # and of those equal the first
        ((0.3, 0.29, 0.28, 0.27), 30),  # a slow gain is a gain
        ((0.3, 0.1, math.nan), 10),
        ((math.nan, 0.1, 0.09), 10),
    ],
)
def test_only_what_is_better_by_more_than_the_tolerance(errors: tuple[float, ...], chosen: int) -> None:
    assert best_step(history(*errors), config(0.02)) == chosen


def test_who_saves_what_is_best_at_the_time_has_what_is_chosen() -> None:
    rng = random.Random(0)
    for _ in range(300):
        errors = [rng.choice((0.1, 0.11, 0.12, 0.2, 0.5)) for _ in range(8)]
        saved: int | None = None
        for seen in range(1, 9):
            part = history(*errors[:seen])
            if best_step(part, config(0.015)) == part[-1]["step"]:
                saved = int(part[-1]["step"])
            assert saved == best_step(part, config(0.015))


def test_patience_waits_for_a_new_best_whatever_the_tolerance() -> None:
    for tolerance in (0.0, 0.5):
        assert not exhausted(history(0.3, 0.1, 0.2), config(tolerance, patience=2))
        assert exhausted(history(0.3, 0.1, 0.2, 0.1), config(tolerance, patience=2))
        assert not exhausted(history(0.3, 0.1, 0.2, 0.1), config(tolerance))


def test_a_metric_that_is_not_measured_is_named() -> None:
    with pytest.raises(ConfigError, match="'val/error' is not measured; choose from val/loss"):
        best_step([{"step": 0, "val/loss": 1.0}], config())


def test_the_last_whatever_it_measured_where_it_is_asked_for() -> None:
    last = SelectionConfig(metric="val/error", mode="min", take="last")
    assert best_step([], last) is None
    assert best_step(history(0.1, 0.5, 0.9), last) == 20
    assert best_step(history(0.1, math.nan), last) == 10
    with pytest.raises(ConfigError, match="selection.metric"):
        best_step([{"step": 0, "val/other": 1.0}], last)
