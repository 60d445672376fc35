"""When checkpoints are made: by steps, by the clock, and never for more than 2 % of the time."""

from __future__ import annotations

import pytest

from nearfar.config.run import CheckpointConfig
from nearfar.training import saver
from nearfar.training.saver import Cadence


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one the saver looks at."""
    found = Clock()
    monkeypatch.setattr(saver, "time", found)
    return found


def run(clock: Clock, config: CheckpointConfig, *, steps: int, seconds: float, cost: float) -> list[int]:
    """Steps at which a run saves whose steps and checkpoints take so many seconds."""
    cadence, saved = Cadence(config, steps, 0), []
    for step in range(1, steps + 1):
        clock.now += seconds
        if cadence.due(step):
            clock.now += cost
            cadence.saved(step, cost)
            saved.append(step)
    return saved


def test_a_share_of_the_run_or_some_minutes(clock: Clock) -> None:
    config = CheckpointConfig(every_fraction=0.1, every_minutes=5)
    assert run(clock, config, steps=100, seconds=1, cost=0) == list(range(10, 101, 10))
    assert run(clock, config, steps=100, seconds=100, cost=0) == list(range(3, 100, 3))


@pytest.mark.row("R13")
@pytest.mark.parametrize("cost", [0.01, 0.5, 3.0, 20.0])
def test_saving_stays_below_two_per_cent(
    clock: Clock, cost: float, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CheckpointConfig(every_fraction=0.01, every_minutes=0.1)
    saved = run(clock, config, steps=10_000, seconds=1, cost=cost)
    assert saved
    share = cost * len(saved) / clock.now
    # The first comes before anybody knows what one costs.
    assert share <= saver.SHARE_OF_TIME + cost / clock.now
    expected = max(6, cost / saver.SHARE_OF_TIME)
    gaps = [later - earlier for earlier, later in zip(saved[1:], saved[2:], strict=False)]
    assert all(expected <= gap <= expected + 1 for gap in gaps)
    assert ("made less often than configured" in capsys.readouterr().err) == (cost >= 3)


def test_what_is_asked_for_by_number_is_made(clock: Clock) -> None:
    config = CheckpointConfig(every_steps=4, every_fraction=1.0)
    assert run(clock, config, steps=12, seconds=0.1, cost=1000) == [4, 8, 12]
