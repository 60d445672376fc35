"""What the tests of random operations share: generators, and a bound for counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

Fits = Callable[[Mapping[object, int], Mapping[object, float]], bool]


@pytest.fixture
def rng() -> torch.Generator:
    """Generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def fits() -> Fits:
    """Whether counts follow a law, by the chi-square statistic; five of its standard deviations pass."""

    def check(counts: Mapping[object, int], law: Mapping[object, float]) -> bool:
        assert sum(law.values()) == pytest.approx(1)
        if not set(counts) <= set(law):
            return False
        total, cells = sum(counts.values()), len(law) - 1
        statistic = sum((counts.get(cell, 0) - total * p) ** 2 / (total * p) for cell, p in law.items())
        return bool(statistic < cells + 5 * (2 * cells) ** 0.5)

    return check
