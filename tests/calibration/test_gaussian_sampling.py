"""Draws against the mean and the covariance they are meant to have, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.calibration.gaussians import ClassGaussians
from nearfar.calibration.gaussians import sampling as sampling_module
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator, numpy_generator
from nearfar.testing import LargestTensor

DRAWS = 200_000


def problem(sizes: Sequence[int], dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated features around a place for each class, and labels."""
    rng = numpy_generator(seed, "problem")
    labels = np.repeat(np.arange(len(sizes)), sizes)
    x = (rng.normal(size=(len(sizes), dim)) * 2)[labels]
    x = x + rng.normal(size=(len(labels), dim)) @ (np.eye(dim) + 0.3 * rng.normal(size=(dim, dim)))
    return torch.from_numpy(x), torch.from_numpy(labels)


def check_law(drawn: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Relative errors below 2 % in the Frobenius norm; the mean within its sampling error."""
    found = drawn.double().T.cov()
    assert torch.linalg.norm(found - covariance) < 0.02 * torch.linalg.norm(covariance)
    error = (drawn.double().mean(0) - mean).square().sum()
    # Its expectation is trace / n; a sum of few squares seldom exceeds it five times.
    assert error <= 5 * covariance.trace() / len(drawn) + 1e-12


@pytest.mark.parametrize("ridge", ["ones", "eye"])
@pytest.mark.parametrize(
    ("sizes", "dim", "code"),
    [
        ((60, 40, 30), 12, 2),  # more items than features everywhere
        ((60, 40, 30), 12, 0),  # a head
        ((7, 6, 4), 20, 2),  # singular: fewer items than features everywhere
        ((40, 30, 5), 20, 2),  # some of each
        ((40, 30, 1), 20, 2),  # one item
    ],
)
def test_draws_have_the_law_of_the_formula(sizes: Sequence[int], dim: int, code: int, ridge: str) -> None:
    x, y = problem(sizes, dim)
    fitted = ClassGaussians(outlier="none", gamma=0.4, alpha=0.5, ridge=ridge, head_mass=0.6).fit(x, y)
    assert (code in fitted.head_classes_) is (code == 0)
    rng = generator(0, "law")
    codes = torch.full((DRAWS,), code)
    drawn = fitted.draw(codes, rng)
    assert drawn.dtype == torch.float64
    check_law(drawn, fitted.calibrated_means_[code], fitted.covariance(code))


def test_draws_of_a_mixed_batch_are_independent_and_at_their_places() -> None:
    x, y = problem((60, 40, 30, 6, 1), 6)
    fitted = ClassGaussians(outlier="none", head_mass=0.7).fit(x.float(), y)
    codes = torch.tensor([4, 0, 3, 0, 2]).repeat(40_000)
    drawn = fitted.draw(codes, generator(0, "mixed"))
    for code in (0, 2, 3, 4):
        check_law(drawn[codes == code], fitted.calibrated_means_[code], fitted.covariance(code))
    # Two rows of one class, one of which shares a donor with a third: nothing of the noise is shared.
    rows = drawn.view(40_000, 5, 6).double()
    rows = (rows - rows.mean(0)) / rows.std(0)
    for first, second in ((1, 3), (0, 1), (2, 4)):
        correlation = rows[:, first].T @ rows[:, second] / 40_000
        assert correlation.abs().max() < 5 / 40_000**0.5


def test_draws_stay_in_the_span_of_what_was_seen() -> None:
    x, y = problem((5, 4, 3), 40)
    fitted = ClassGaussians(outlier="none", ridge="ones", alpha=0.5, head_mass=0.7).fit(x, y)
    drawn = fitted.draw(torch.full((500,), 2), generator(0, "rank")) - fitted.calibrated_means_[2]
    assert torch.linalg.matrix_rank(drawn, rtol=1e-9) == 4 + 3 + 2 + 1
    head = fitted.draw(torch.full((500,), 0), generator(0, "rank")) - fitted.calibrated_means_[0]
    assert torch.linalg.matrix_rank(head, rtol=1e-9) == 4


def test_one_item_and_nothing_borrowed_is_that_item() -> None:
    x, y = problem((9, 5, 1), 4)
    fitted = ClassGaussians(outlier="none", gamma=0, alpha=0).fit(x, y)
    assert torch.equal(fitted.draw(torch.tensor([2, 2]), generator(0, "d")), x[-1].expand(2, 4))
    ridged = ClassGaussians(outlier="none", gamma=0, alpha=4.0, ridge="ones").fit(x, y)
    along = ridged.draw(torch.full((5000,), 2), generator(0, "d")) - x[-1]
    assert torch.allclose(along, along[:, :1].expand_as(along))
    assert along[:, 0].std().item() == pytest.approx(2.0, rel=0.05)


def test_equal_generators_give_equal_draws_and_pieces_keep_the_law(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = problem((30, 20, 6), 5)
    fitted = ClassGaussians(outlier="none", head_mass=0.9).fit(x, y)
    codes = torch.arange(3).repeat(20_000)
    first, again = (fitted.draw(codes, generator(0, "d")) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, fitted.draw(codes, generator(1, "d")))
    rng = generator(0, "d")
    fitted.draw(codes, rng)
    assert not torch.equal(first, fitted.draw(codes, rng))
    monkeypatch.setattr(sampling_module, "BLOCK", 1000)
    drawn = fitted.draw(codes, generator(0, "d"))
    for code in range(3):
        check_law(drawn[codes == code], fitted.calibrated_means_[code], fitted.covariance(code))


def test_draws_do_not_touch_the_global_generators() -> None:
    x, y = problem((30, 20, 6), 5)
    state = torch.get_rng_state()
    ClassGaussians().fit(x, y).sample(10)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_draws_have_the_dtype_of_the_features(dtype: torch.dtype) -> None:
    x, y = problem((30, 20, 6), 5)
    fitted = ClassGaussians(outlier="none", ridge="eye").fit(x.to(dtype), y)
    drawn, codes = fitted.sample(2)
    assert drawn.dtype == fitted.score_samples(drawn).dtype == dtype
    assert codes.dtype == torch.int64
    wide = ClassGaussians(outlier="none", ridge="eye").fit(x.to(dtype).double(), y).sample(2)[0]
    assert torch.allclose(
        drawn.double(), wide, rtol=0, atol=1e-5 if dtype.itemsize > 2 else 40 * torch.finfo(dtype).eps
    )


def test_arrays_of_whole_numbers_are_features_too() -> None:
    x, y = problem((30, 20, 6), 5)
    whole = (x * 10).round().numpy().astype(np.int64)
    drawn, _ = ClassGaussians(outlier="none").fit(whole, y.numpy()).sample(2)
    assert drawn.dtype == torch.float32


def test_numbers_of_draws() -> None:
    x, y = problem((30, 20, 6), 5)
    mask = torch.ones(56, dtype=torch.bool)
    mask[:12] = False
    fitted = ClassGaussians().fit(x, y, inliers=mask, classes=[0, "absent", 1, 2])
    numbers: list[tuple[Any, list[int]]] = [
        ("equal", [20, 0, 20, 20]),
        ("fill", [2, 0, 0, 14]),
        (3, [3, 0, 3, 3]),
        (0, [0, 0, 0, 0]),
        ([1, 0, 2, 0], [1, 0, 2, 0]),
        (torch.tensor([1, 0, 2, 0]), [1, 0, 2, 0]),
        (np.array([1, 0, 2, 0]), [1, 0, 2, 0]),
    ]
    for wanted, expected in numbers:
        drawn, codes = fitted.sample(wanted)
        assert codes.tolist() == [k for k, n in enumerate(expected) for _ in range(n)]
        assert drawn.shape == (sum(expected), 5)
        assert drawn.isfinite().all()
    assert torch.equal(fitted.sample(3)[0], fitted.sample(3)[0])
    other = ClassGaussians(seed=1).fit(x, y, inliers=mask)
    assert not torch.equal(fitted.sample(3)[0], other.sample(3)[0])


def test_draws_that_cannot_be_made() -> None:
    x, y = problem((30, 20, 6), 5)
    fitted = ClassGaussians(outlier="none").fit(x, y, classes=[0, "absent", 1, 2])
    rng = generator(0, "d")
    with pytest.raises(DataError, match="class 'absent' has no items, so no Gaussian to draw from"):
        fitted.draw(torch.tensor([0, 1]), rng)
    with pytest.raises(DataError, match="class 'absent' has no items"):
        fitted.sample([1, 1, 1, 1])
    with pytest.raises(DataError, match="classes: codes from 0 to 3 expected, got 4"):
        fitted.draw(torch.tensor([0, 4]), rng)
    with pytest.raises(DataError, match="classes: codes from 0 to 3 expected, got -1"):
        fitted.draw(torch.tensor([-1]), rng)
    with pytest.raises(DataError, match=r"classes: int64 codes of shape \(B,\) expected, got torch.float32"):
        fitted.draw(torch.zeros(2), rng)
    with pytest.raises(ConfigError, match="'equal', 'fill' or whole numbers expected, got 'full'"):
        fitted.sample("full")
    every: list[Any] = [-1, [1, 2], [0.5, 0, 1, 1]]
    for wrong in every:
        with pytest.raises(
            ConfigError, match="n_per_class: one number of at least 0, or 4 of them, expected"
        ):
            fitted.sample(wrong)
    assert fitted.draw(torch.zeros(0, dtype=torch.int64), rng).shape == (0, 5)


def test_nothing_of_the_size_of_a_covariance_is_formed() -> None:
    """20,000 features: one matrix of that size would take 3.2 GB."""
    dim = 20_000
    rng = generator(0, "wide")
    x = torch.randn(30, dim, generator=rng)
    y = [0] * 14 + [1] * 10 + [2] * 5 + [3]
    fitted = ClassGaussians(ridge="eye").fit(x, y)
    with LargestTensor() as seen:
        drawn, _ = fitted.sample(4)
        scores = fitted.score_samples(drawn)
    assert scores.isfinite().all()
    assert seen.numbers <= 40 * dim


def test_factors_are_made_when_they_are_needed() -> None:
    x, y = problem((30, 20, 6, 5), 5)
    fitted = ClassGaussians(outlier="none", q=1).fit(x, y)
    made = fitted.factors_._made
    assert not made
    fitted.draw(torch.tensor([0]), generator(0, "d"))
    assert set(made) == {0}
    fitted.draw(torch.tensor([3]), generator(0, "d"))
    assert set(made) == {0, 3, int(fitted.donors_[3, 0])}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_on_a_gpu_are_those_of_the_cpu_and_nobody_waits() -> None:
    x, y = problem((300, 200, 60, 5, 1), 40)
    x = x.float()
    reference = ClassGaussians(ridge="eye").fit(x, y)
    fitted = ClassGaussians(ridge="eye").fit(x.cuda(), y.cuda())
    assert torch.equal(fitted.inlier_mask_, reference.inlier_mask_)
    codes = torch.arange(5).repeat(30)
    fitted.draw(codes, generator(0, "d"))  # makes the factors
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = fitted.draw(codes, generator(0, "d"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert drawn.is_cuda
    assert torch.allclose(drawn.cpu(), reference.draw(codes, generator(0, "d")), atol=1e-4)
    assert torch.allclose(fitted.score_samples(x).cpu(), reference.score_samples(x), rtol=1e-3)
