"""Masked means against lists."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nearfar.objectives.masked_mean import masked_mean


def test_equals_the_mean_of_what_is_there() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(5, 7, generator=rng, dtype=torch.float64)
    mask = torch.rand(5, 7, generator=rng) < 0.6
    mask[2] = False
    hidden = values.masked_fill(~mask, math.nan)
    assert masked_mean(hidden, mask).item() == pytest.approx(values[mask].mean().item())
    for dim in (0, 1, -1):
        found = masked_mean(hidden, mask, dim)
        torch.testing.assert_close(found, hidden.nanmean(dim), equal_nan=True)
    assert masked_mean(values, mask, 1)[2].isnan()
    rows = torch.tensor([True, False, True, True, False])
    assert masked_mean(values, rows[:, None]).item() == pytest.approx(values[rows].mean().item())


def test_what_is_hidden_has_no_gradient() -> None:
    values = torch.tensor([1.0, math.nan, 3.0, math.inf], requires_grad=True)
    masked_mean(values, torch.tensor([True, False, True, False])).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0, 0.5, 0]
    assert masked_mean(torch.ones(3).half(), torch.ones(3, dtype=torch.bool)).dtype == torch.float32


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("values: floating point", (torch.ones(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool))),
        ("mask: bool", (torch.ones(3), torch.ones(3))),
        (r"mask: a shape that broadcasts to \(3,\)", (torch.ones(3), torch.ones(2, dtype=torch.bool))),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=message):
        masked_mean(*arguments)
