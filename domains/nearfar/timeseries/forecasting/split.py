"""Which rows of a series are trained on, selected on and tested on, and from which of them forecasts start.

TS2Vec (Yue et al., AAAI 2022) and CoST (Woo et al., ICLR 2022): a forecast of the next ``H`` rows may start at a row
if all ``H`` are in the same part, so no target of one part is a target of another. What is seen before the start may
reach back into the part before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearfar.errors import ConfigError, DataError
from nearfar.scalars import is_whole

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ForecastSplit:
    """Three parts in the order of time.

    Attributes:
        train_end: Rows before it are trained on.
        val_end: Rows before it, and not before ``train_end``, select.
        test_end: Rows before it, and not before ``val_end``, are tested on.

    Raises:
        DataError: If a part is empty.

    Example:
        >>> ForecastSplit(60, 80, 100).bounds("val")
        (60, 80)
    """

    train_end: int
    val_end: int
    test_end: int

    def __post_init__(self) -> None:
        """Check the order."""
        if not all(is_whole(end) for end in (self.train_end, self.val_end, self.test_end)):
            raise DataError(
                f"split: train_end={self.train_end}, val_end={self.val_end} and test_end={self.test_end} must be whole "
                "numbers of rows"
            )
        if not 0 < self.train_end < self.val_end < self.test_end:
            raise DataError(
                f"split: train_end={self.train_end}, val_end={self.val_end} and test_end={self.test_end} leave a part "
                "without rows; they must be positive and increasing"
            )

    @classmethod
    def by_shares(cls, num_rows: int, train: float = 0.6, val: float = 0.2) -> ForecastSplit:
        """60 % / 20 % / 20 % of the rows, as for every set without a split of its own.

        Args:
            num_rows: Rows of the series.
            train: Share that is trained on.
            val: Share that selects; the rest is tested on.

        Raises:
            ConfigError: If a share is not positive, or nothing is left to test on.
            DataError: If there are so few rows that a part would be empty.

        Example:
            >>> ForecastSplit.by_shares(1000)
            ForecastSplit(train_end=600, val_end=800, test_end=1000)
        """
        if not (train > 0 and val > 0 and train + val < 1):
            raise ConfigError(
                f"train, val: positive shares with a sum below 1 expected, got {train} and {val}"
            )
        # 0.6 * 5 is less than 3 by a rounding error.
        return cls(int(num_rows * train + 1e-9), int(num_rows * (train + val) + 1e-9), num_rows)

    def bounds(self, part: Part) -> tuple[int, int]:
        """First row of a part and the row after its last one."""
        starts = {"train": 0, "val": self.train_end, "test": self.val_end}
        ends = {"train": self.train_end, "val": self.val_end, "test": self.test_end}
        return starts[part], ends[part]


def anchor_rows(split: ForecastSplit, part: Part, horizon: int, first: int = 200) -> range:
    """Rows ``t`` from which ``t + 1 .. t + horizon`` are forecast.

    Args:
        split: The parts.
        part: Which of them; all targets are in it.
        horizon: Rows to forecast.
        first: No forecast starts before this row: what it is made from would be missing.

    Returns:
        The rows, maybe none.

    Example:
        >>> split = ForecastSplit(60, 80, 100)
        >>> anchor_rows(split, "train", horizon=5, first=20), anchor_rows(split, "val", horizon=5, first=20)
        (range(20, 55), range(60, 75))
    """
    start, stop = split.bounds(part)
    return range(max(start, first), max(start, first, stop - horizon))
