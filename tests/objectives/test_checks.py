"""What the checks that all losses share accept, and what they say about the rest."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearfar import checks
from nearfar.objectives import views
from nearfar.objectives.bounded_temperature import bounded_temperature, logit_of_temperature
from nearfar.testing import draw


def test_what_is_right_passes() -> None:
    x = draw(4, 3)
    checks.check_matrix("x", x, draw(5, 3), min_rows=4, num_rows=4)
    checks.check_matrix("x", x[:0], min_rows=0)
    checks.check_tensor("x", x > 0, (4, 3), torch.bool)
    checks.check_ids("x", torch.tensor([-5, 7]), 2)
    checks.check_ids("x", torch.tensor([0, 2]), 2, lowest=0, below=3)
    checks.check_ids("x", torch.zeros(0, dtype=torch.int64), 0, below=3)
    checks.check_counts(one=1, many=10**9)
    checks.check_shares(nothing=0, everything=1.0)
    checks.check_shares(below_one=True, most=1 - 1e-12)
    views.check_more("more", draw(0, 4, 3), x)
    views.check_wrong(x, draw(4, 1, 3))
    views.check_teacher(x, a=draw(4, 9), b=draw(4, 9))
    assert torch.equal(views.stacked_views(x, 2 * x, None), torch.stack([x, 2 * x]))
    assert torch.equal(views.stacked_views(x, 2 * x, 3 * x[None]), torch.stack([x, 2 * x, 3 * x]))


X = draw(4, 3)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            "x: (N, d) with N at least 5 expected, got shape (4, 3)",
            lambda: checks.check_matrix("x", X, min_rows=5),
        ),
        ("x: (C, p) with C at least 1", lambda: checks.check_matrix("x", X[:0], shape="(C, p)")),
        ("x: (5, d) expected, got shape (4, 3)", lambda: checks.check_matrix("x", X, num_rows=5)),
        ("x: (N, d) with N", lambda: checks.check_matrix("x", X[None])),
        ("x: (4, d) expected, got shape (4, 1, 3)", lambda: checks.check_matrix("x", X[:, None], num_rows=4)),
        ("x: torch.float64 with 2 features", lambda: checks.check_matrix("x", X, like=X[:, :2])),
        ("x: bool of shape (4, 3) expected, got 5", lambda: checks.check_tensor("x", 5, (4, 3), torch.bool)),
        ("x: int64 of shape (4,) expected, got torch.float64", lambda: checks.check_ids("x", X[:, 0], 4)),
        ("x: int64 of shape (3,)", lambda: checks.check_ids("x", torch.arange(4), 3)),
        (
            "x: integers below 3 expected, got 0 to 3",
            lambda: checks.check_ids("x", torch.arange(4), 4, below=3),
        ),
        ("x: integers of at least 1", lambda: checks.check_ids("x", torch.arange(4), 4, lowest=1)),
        ("x: 0 to 2 expected", lambda: checks.check_ids("x", torch.arange(-1, 2), 3, lowest=0, below=3)),
        ("few: at least 1 expected, got 0", lambda: checks.check_counts(many=2, few=0)),
        ("share: a number in [0, 1] expected, got nan", lambda: checks.check_shares(share=math.nan)),
        ("share: a number in [0, 1] expected", lambda: checks.check_shares(share=-0.1)),
        ("share: a number in [0, 1) expected", lambda: checks.check_shares(below_one=True, share=1.0)),
        ("first: 2 features (dim) expected", lambda: views.check_views(1, 2, first=X, second=X)),
        ("more: (K, 4, 3) with K at least 1", lambda: views.check_more("more", X[None][:0], X, least=1)),
        ("local: (C, 4, 3)", lambda: views.check_more("local", X, X, shape="(C, N, d)")),
        ("more: (K, 4, 3)", lambda: views.stacked_views(X, X, X[None, :2])),
        ("first: (N, d) with N at least 5", lambda: views.stacked_views(X, X, None, 5)),
        ("wrong: (4, R, 3) with R > 0", lambda: views.check_wrong(X, X[:, None][:, :0])),
        ("t: 4 rows expected, got 2", lambda: views.check_teacher(X, t=X[:2])),
        ("u: shape (4, 3) expected", lambda: views.check_teacher(X, t=X, u=X[:2])),
        ("first: a temperature between", lambda: logit_of_temperature("first", 1e-5)),
    ],
)
def test_what_is_wrong_is_named(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("temperature", [2e-5, 0.1, 1.0, 1.999])
def test_a_bounded_temperature_starts_where_it_should(temperature: float) -> None:
    logit = torch.tensor(logit_of_temperature("initial", temperature), dtype=torch.float64)
    found: Tensor = bounded_temperature(logit)
    assert found.item() == pytest.approx(temperature, rel=1e-9)
