"""Means, donors, weights and covariances against a slow loop, worked examples and limits of the formulas."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.calibration.gaussians import ClassGaussians, expected_cross_entropy_bound
from nearfar.calibration.gaussians.donors import donor_weights, nearest_heads
from nearfar.calibration.gaussians.factors import covariance_factor, factor_rank
from nearfar.calibration.gaussians.mahalanobis import squared_mahalanobis
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import generator, numpy_generator

Array = NDArray[np.float64]
# Of 120 items the first two classes hold more than half; some classes have fewer items than features, one has one.
SIZES = (50, 30, 20, 9, 6, 4, 1)
DIM = 8


def problem(sizes: Sequence[int] = SIZES, dim: int = DIM, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated features around a place for each class, and labels, in random order."""
    rng = numpy_generator(seed, "problem")
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    places = rng.normal(size=(len(sizes), dim)) * 2
    x = places[labels] + rng.normal(size=(len(labels), dim)) @ rng.normal(size=(dim, dim)) * 0.7
    return torch.from_numpy(x), torch.from_numpy(labels)


def by_definition(
    x: Tensor,
    y: Tensor,
    kept: Tensor,
    *,
    q: int,
    gamma: float,
    alpha: float,
    weighting: str,
    ridge: str,
    head_mass: float = 0.5,
) -> tuple[dict[int, Array], dict[int, Array], dict[int, dict[int, float]]]:
    """The formulas of the paper in loops: means, covariances and weights of donors by class."""
    rows, codes, mask = x.double().numpy(), y.numpy(), kept.numpy()
    count = {int(k): int((codes == k).sum()) for k in np.unique(codes)}
    heads: list[int] = []
    for k in sorted(count, key=lambda k: (-count[k], k)):
        if sum(count[head] for head in heads) >= head_mass * len(codes):
            break
        heads.append(k)
    mean, cov = {}, {}
    dim = rows.shape[1]
    for k in count:
        its = rows[(codes == k) & mask]
        mean[k] = sum(its) / len(its)
        cov[k] = np.zeros((dim, dim))
        for row in its:
            cov[k] += np.outer(row - mean[k], row - mean[k]) / max(len(its) - 1, 1)
    means, covariances, weights = dict(mean), dict(cov), {}
    for k in set(count) - set(heads):
        squared = {c: float(sum((mean[c] - mean[k]) ** 2)) for c in heads}
        donors = sorted(heads, key=lambda c: squared[c])[:q]
        raw = {}
        for c in donors:
            raw[c] = {"paper": count[c] * squared[c], "inverse": count[c] / squared[c], "uniform": 1.0}[
                weighting
            ]
        weights[k] = {c: raw[c] / sum(raw.values()) for c in donors}
        means[k] = gamma * sum(weights[k][c] * mean[c] for c in donors) + (1 - gamma) * mean[k]
        covariances[k] = gamma * sum(weights[k][c] * cov[c] for c in donors) + (1 - gamma) * cov[k]
        covariances[k] = covariances[k] + alpha * (np.ones((dim, dim)) if ridge == "ones" else np.eye(dim))
    return means, covariances, weights


@pytest.mark.parametrize("ridge", ["ones", "eye"])
@pytest.mark.parametrize("weighting", ["paper", "inverse", "uniform"])
@pytest.mark.parametrize(("q", "head_mass"), [(1, 0.5), (2, 0.9), (9, 0.9)])
def test_statistics_are_those_of_the_formulas(weighting: str, ridge: str, q: int, head_mass: float) -> None:
    x, y = problem()
    # One item in five is left out; where that would leave nothing, nothing is.
    kept = torch.from_numpy(numpy_generator(1, "mask").random(len(y)) < 0.8) | (y == 6) | (y == 5)
    settings: dict[str, Any] = {
        "q": q, "gamma": 0.4, "alpha": 0.2, "weighting": weighting, "ridge": ridge, "head_mass": head_mass
    }  # fmt: skip
    fitted = ClassGaussians(**settings).fit(x, y, inliers=kept)
    means, covariances, weights = by_definition(x, y, kept, **settings)
    assert fitted.counts_.tolist() == list(SIZES)
    assert fitted.kept_counts_.tolist() == [int(kept[y == k].sum()) for k in range(len(SIZES))]
    for k in range(len(SIZES)):
        assert np.allclose(fitted.calibrated_means_[k], means[k], rtol=1e-12)
        assert np.allclose(fitted.covariance(k), covariances[k], rtol=1e-10, atol=1e-12)
        donors = [donor for donor in fitted.donors_[k].tolist() if donor >= 0]
        assert donors == list(weights.get(k, {}))
        found = fitted.donor_weights_[k]
        assert found[: len(donors)].tolist() == pytest.approx(list(weights.get(k, {}).values()), rel=1e-9)
        assert (found >= 0).all()
        assert found.sum().item() == pytest.approx(1.0 if donors else 0.0)


@pytest.mark.parametrize("weighting", ["paper", "inverse"])
def test_a_worked_example(weighting: str) -> None:
    """Heads of 100 and 50 items at (0, 0) and (4, 0), a tail at (1, 0): distances 1 and 9."""
    x = torch.tensor([[0.0, 0.0]] * 100 + [[4.0, 0.0]] * 50 + [[1.0, 0.0]] * 10)
    y = [0] * 100 + [1] * 50 + [2] * 10
    fitted = ClassGaussians(outlier="none", gamma=0.5, head_mass=0.9, weighting=weighting).fit(x, y)
    assert fitted.head_classes_.tolist() == [0, 1]
    assert fitted.donors_[2].tolist() == [0, 1]
    far = 450 / 550 if weighting == "paper" else (50 / 9) / (100 + 50 / 9)
    assert fitted.donor_weights_[2].tolist() == pytest.approx([1 - far, far], rel=1e-9)
    assert fitted.calibrated_means_[2].tolist() == pytest.approx([0.5 * 4 * far + 0.5, 0.0], rel=1e-9)
    if weighting == "paper":
        assert fitted.calibrated_means_[2, 0].item() == pytest.approx(2.1364, abs=5e-5)
    assert fitted.donor_table()[2] == {
        "class": 2,
        "count": 10,
        "kept": 10,
        "head": False,
        "donors": [0, 1],
        "weights": fitted.donor_weights_[2].tolist(),
        "distances": [1.0, 3.0],
    }


def test_without_borrowing_and_ridge_they_are_plain() -> None:
    x, y = problem()
    fitted = ClassGaussians(outlier="none", gamma=0, alpha=0).fit(x, y)
    assert torch.equal(fitted.calibrated_means_, fitted.means_)
    for k, size in enumerate(SIZES):
        if size > 1:
            assert torch.allclose(fitted.covariance(k), x[y == k].T.cov(), rtol=1e-10, atol=1e-12)
        else:
            assert not fitted.covariance(k).any()


def test_who_borrows_all_from_one_is_at_its_mean() -> None:
    x, y = problem()
    fitted = ClassGaussians(outlier="none", gamma=1, q=1, head_mass=0.9).fit(x, y)
    heads = fitted.head_classes_
    for k in range(len(SIZES)):
        if k not in heads:
            nearest = heads[(fitted.means_[heads] - fitted.means_[k]).square().sum(1).argmin()]
            assert fitted.donors_[k].tolist() == [nearest]
            assert torch.equal(fitted.calibrated_means_[k], fitted.means_[nearest])


@pytest.mark.parametrize("weighting", ["paper", "inverse", "uniform"])
def test_donors_at_distance_zero_weigh_the_same(weighting: str) -> None:
    weights = donor_weights(
        torch.tensor([[0.0, 0.0], [0.0, 4.0]]), torch.tensor([[90, 10], [90, 10]]), weighting
    )
    assert weights[0].tolist() == [0.5, 0.5]
    assert weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert weights[1].tolist() == pytest.approx(
        {"paper": [0, 1], "inverse": [1, 0], "uniform": [0.5, 0.5]}[weighting], abs=1e-9
    )


@pytest.mark.parametrize("scale", [1e-140, 1e-3, 1e140])
def test_weights_do_not_depend_on_the_unit(scale: float) -> None:
    squared, counts = torch.rand(3, 2, generator=generator(0, "d")).double() + 1, torch.tensor([[9, 4]] * 3)
    for weighting in ("paper", "inverse"):
        expected = donor_weights(squared, counts, weighting)
        assert torch.allclose(donor_weights(squared * scale**2, counts, weighting), expected, rtol=1e-9)


def test_nearest_heads_by_brute_force() -> None:
    means = torch.randn(12, 5, generator=generator(0, "means")).double() + 1000
    heads, tails = torch.tensor([3, 0, 7, 9]), torch.tensor([1, 2, 11])
    donors, squared = nearest_heads(means, heads, tails, 3)
    for row, tail in enumerate(tails.tolist()):
        apart = {head: float((means[head] - means[tail]).square().sum()) for head in heads.tolist()}
        expected = sorted(apart, key=lambda head: apart[head])[:3]
        assert donors[row].tolist() == expected
        assert squared[row].tolist() == pytest.approx([apart[head] for head in expected], rel=1e-9)
    ties = torch.tensor([[1.0], [1.0], [1.0], [0.0]])
    assert nearest_heads(ties, torch.tensor([2, 0, 1]), torch.tensor([3]), 2)[0].tolist() == [[2, 0]]
    with pytest.raises(ValueError, match="q: at least 1 expected, got 0"):
        nearest_heads(means, heads, tails, 0)


def test_a_ridge_of_ones_acts_along_ones_only() -> None:
    x, y = problem()
    v = torch.randn(DIM, generator=generator(0, "v")).double()
    across = v - v.mean()
    plain, ones, eye = (
        ClassGaussians(outlier="none", alpha=alpha, ridge=ridge).fit(x, y).covariance(4)
        for alpha, ridge in ((0, "ones"), (0.5, "ones"), (0.5, "eye"))
    )
    assert (v @ ones @ v - v @ plain @ v).item() == pytest.approx(0.5 * v.sum().item() ** 2)
    assert (across @ ones @ across).item() == pytest.approx((across @ plain @ across).item())
    assert (v @ eye @ v - v @ plain @ v).item() == pytest.approx(0.5 * v.square().sum().item())


def test_a_ridge_of_ones_leaves_a_covariance_singular() -> None:
    x, y = problem((6, 5, 4), dim=40)
    ones = ClassGaussians(outlier="none", ridge="ones").fit(x, y).covariance(2)
    eye = ClassGaussians(outlier="none", ridge="eye").fit(x, y).covariance(2)
    # Two heads of 6 and 5 items and 4 of its own: 5 + 4 + 3 directions, and the ones.
    assert torch.linalg.matrix_rank(ones, hermitian=True) == 13
    assert torch.linalg.cholesky_ex(eye).info == 0


@pytest.mark.parametrize("labels", ["text", "tuples", "mixed", "numpy", "tensor"])
def test_labels_of_any_hashable_type(labels: str) -> None:
    x, y = problem()
    kinds: dict[str, tuple[Any, ...]] = {
        "text": tuple("abcdefg"),
        "tuples": tuple((k, "x") for k in range(7)),
        "mixed": (0, "one", 2.5, ("three",), True, frozenset({5}), "six"),
        "numpy": tuple(range(7)),
        "tensor": tuple(range(7)),
    }
    names = kinds[labels]
    given: Any = [names[k] for k in y.tolist()]
    given = {"numpy": y.numpy(), "tensor": y}.get(labels, given)
    fitted = ClassGaussians(outlier="none").fit(x, given)
    assert set(fitted.classes_) == set(names)
    assert [fitted.classes_[code] for code in fitted.codes_.tolist()] == list(given)
    # The order of the classes is another one for labels that cannot be sorted; the Gaussians are the same.
    reference = ClassGaussians(outlier="none").fit(x, y)
    for k, name in enumerate(names):
        code = fitted.classes_.index(name)
        assert torch.allclose(fitted.calibrated_means_[code], reference.calibrated_means_[k])
    assert {row["class"]: row["count"] for row in fitted.donor_table()} == dict(
        zip(names, SIZES, strict=True)
    )


def test_classes_that_do_not_occur_have_no_gaussian_and_lend_nothing() -> None:
    x, y = problem()
    classes: list[Hashable] = ["none", 3, 1, 0, "never", 2, 4, 5, 6]
    fitted = ClassGaussians(outlier="none", q=9, head_mass=0.9).fit(x, y, classes=classes)
    reference = ClassGaussians(outlier="none", q=9, head_mass=0.9).fit(x, y)
    assert fitted.classes_ == tuple(classes)
    assert fitted.counts_.tolist() == [0, 9, 30, 50, 0, 20, 6, 4, 1]
    assert not {0, 4} & set(fitted.donors_.flatten().tolist())
    for code in (0, 4):
        assert fitted.means_[code].isnan().all()
        assert fitted.donors_[code].tolist() == [-1] * fitted.donors_.shape[1]
        with pytest.raises(DataError, match=f"class {classes[code]!r} has no items"):
            fitted.covariance(code)
    assert torch.allclose(fitted.calibrated_means_[7], reference.calibrated_means_[5])
    assert torch.allclose(fitted.covariance(7), reference.covariance(5))
    rows = {row["class"]: row for row in fitted.donor_table()}
    assert rows["never"] == {
        "class": "never", "count": 0, "kept": 0, "head": False, "donors": [], "weights": [], "distances": []
    }  # fmt: skip


def test_one_class_alone_is_a_head() -> None:
    x, _ = problem()
    fitted = ClassGaussians().fit(x, ["only"] * len(x))
    assert fitted.head_classes_.tolist() == [0]
    assert fitted.donors_.tolist() == [[-1]]
    single = ClassGaussians().fit(x[:1], ["only"])
    assert torch.equal(single.calibrated_means_, x[:1])
    assert not single.covariance(0).any()


def test_equal_classes_are_half_heads() -> None:
    x, y = problem((5,) * 7)
    fitted = ClassGaussians(outlier="none", q=3).fit(x, y)
    assert fitted.head_classes_.tolist() == [0, 1, 2, 3]
    assert fitted.donors_.shape == (7, 3)


def test_what_cannot_be_fitted() -> None:
    x, y = problem()
    gaussians = ClassGaussians(outlier="none")
    broken = x.clone()
    broken[17, 3] = torch.nan
    with pytest.raises(DataError, match=r"features: row 17 is not finite \(1 such rows\)"):
        gaussians.fit(broken, y)
    broken[17, 3] = torch.inf
    with pytest.raises(DataError, match="features: row 17 is not finite"):
        gaussians.fit(broken.numpy(), y)
    with pytest.raises(DataError, match="labels: one for each of the 120 rows expected, got 119"):
        gaussians.fit(x, y[:-1])
    with pytest.raises(DataError, match="features: a matrix"):
        gaussians.fit(x[0], y[:1])
    with pytest.raises(DataError, match="features: at least one row expected, got none"):
        gaussians.fit(x[:0], y[:0])
    with pytest.raises(DataError, match="None in row 1 is no label"):
        gaussians.fit(x[:3], ["a", None, "b"])
    with pytest.raises(DataError, match="is none of the 6 classes"):
        gaussians.fit(x, y, classes=range(6))
    with pytest.raises(DataError, match="classes: 1 is named twice"):
        gaussians.fit(x, y, classes=[0, 1, 1])
    with pytest.raises(DataError, match=r"inliers: bool of shape \(120,\) expected, got torch.int64"):
        gaussians.fit(x, y, inliers=y)
    with pytest.raises(DataError, match="inliers: none of the 4 items of class 5 is kept"):
        gaussians.fit(x, y, inliers=y != 5)
    with pytest.raises(DataError, match="too large"):
        gaussians.fit(x * 1e200, y)
    with pytest.raises(DataError, match="this ClassGaussians is not fitted yet"):
        ClassGaussians().sample()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"outlier": "iforest"}, "outlier: 'lof' or 'knn' or 'none' expected, got 'iforest'"),
        ({"weighting": "far"}, "weighting: 'paper' or 'inverse' or 'uniform' expected, got 'far'"),
        ({"ridge": "one"}, "ridge: 'ones' or 'eye' expected, got 'one'"),
        ({"keep": 0}, r"keep: a share in \(0, 1\] expected, got 0"),
        ({"head_mass": 1.5}, r"head_mass: a share in \(0, 1\] expected, got 1.5"),
        ({"gamma": -0.1}, r"gamma: a number in \[0, 1\] expected, got -0.1"),
        ({"alpha": float("nan")}, "alpha: a finite number of at least 0 expected, got nan"),
        ({"threshold": 0}, "threshold: a finite positive number expected, got 0"),
        ({"q": 0}, "q: at least 1 donor expected, got 0"),
        ({"neighbors": 0}, "neighbors: at least 1 expected, got 0"),
    ],
)
def test_settings_out_of_bounds(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassGaussians(**setting)


def test_statistics_of_float32_are_taken_in_float64() -> None:
    x, y = problem()
    # With six digits before the point, float32 sums of squares would lose all of the covariance.
    far = (x + 1e5).float()
    fitted = ClassGaussians(outlier="none").fit(far, y)
    reference = ClassGaussians(outlier="none").fit(far.double(), y)
    assert fitted.means_.dtype == torch.float64
    assert torch.equal(fitted.calibrated_means_, reference.calibrated_means_)
    assert torch.equal(fitted.covariance(3), reference.covariance(3))


@pytest.mark.parametrize("count", [2, 5, 6, 7, 100, 5000])
def test_factors_multiply_to_the_covariance(count: int) -> None:
    rng = generator(0, "rows", count)
    rows = torch.randn(count, 6, generator=rng).double() @ torch.randn(6, 6, generator=rng).double() + 30
    rows[:, 5] = rows[:, 4]  # singular whatever the count
    factor = covariance_factor(rows, rows.mean(0))
    assert factor.shape == (factor_rank(count, 6), 6) == (min(count, 6), 6)
    assert torch.allclose(factor.T @ factor, rows.T.cov(), rtol=1e-9, atol=1e-12)
    if count > 6:
        assert (factor.diagonal() >= 0).all()
        assert torch.equal(factor, factor.triu())


@pytest.mark.parametrize("alpha", [1e-6, 0.3])
def test_distances_are_those_of_the_inverse(alpha: float) -> None:
    x, y = problem()
    fitted = ClassGaussians(outlier="none", ridge="eye", alpha=alpha).fit(x, y, classes=[*range(7), "absent"])
    scores = fitted.score_samples(x[:20])
    assert scores.shape == (20, 8)
    assert scores[:, 7].isinf().all()
    for k in range(7):
        covariance = fitted.covariance(k)
        if k in fitted.head_classes_:
            covariance = covariance + alpha * torch.eye(DIM).double()
        apart = x[:20] - fitted.calibrated_means_[k]
        expected = (apart @ torch.linalg.inv(covariance) * apart).sum(1)
        assert torch.allclose(scores[:, k], expected, rtol=1e-6)


def test_a_small_ridge_does_not_cancel() -> None:
    """The plain identity of Woodbury has no correct digit left here."""
    factor = torch.randn(3, 50, generator=generator(0, "f")).double() * 100
    inside = torch.ones(1, 3).double() @ factor
    found = squared_mahalanobis(inside, torch.zeros(50).double(), factor, 1e-12)
    assert found.item() == pytest.approx(3.0, abs=1e-3)


def test_distances_need_a_ridge() -> None:
    x, y = problem()
    with pytest.raises(ConfigError, match="ridge='ones', alpha=0.01: a covariance may be singular"):
        ClassGaussians(outlier="none").fit(x, y).score_samples(x)
    with pytest.raises(ConfigError, match="ridge='eye', alpha=0: "):
        ClassGaussians(outlier="none", ridge="eye", alpha=0).fit(x, y).score_samples(x)
    with pytest.raises(DataError, match="features: 8 columns expected, as fitted, got 7"):
        ClassGaussians(outlier="none", ridge="eye").fit(x, y).score_samples(x[:, 1:])


def test_it_can_be_made_again_from_its_state() -> None:
    x, y = problem()
    names = list("abcdefg")
    fitted = ClassGaussians(outlier="knn").fit(
        x.float(), [names[k] for k in y.tolist()], classes=[*names, "z"]
    )
    again = ClassGaussians(outlier="knn").load_state(fitted.state(), fitted.classes_)
    assert again.classes_ == fitted.classes_
    for name in ("inlier_mask_", "counts_", "donors_", "donor_weights_"):
        assert torch.equal(getattr(again, name), getattr(fitted, name))
    codes = torch.arange(7).repeat(3)
    assert torch.equal(again.draw(codes, generator(0, "d")), fitted.draw(codes, generator(0, "d")))
    assert ClassGaussians().load_state(fitted.state()).classes_ == tuple(range(8))
    with pytest.raises(ConfigError, match="classes: 8 labels expected, got 7"):
        ClassGaussians().load_state(fitted.state(), names)


@pytest.mark.parametrize(("apart", "better"), [(0.3, True), (8.0, False)])
@pytest.mark.parametrize("weighting", ["paper", "inverse", "uniform"])
def test_borrowing_helps_where_heads_are_near_and_hurts_where_they_are_far(
    weighting: str, apart: float, better: bool
) -> None:
    """Truly Gaussian classes of 500 to 5 items in 16 dimensions: errors of the means of the tail."""
    sizes, dim = (500, 158, 50, 15, 5), 16
    plain = calibrated = 0.0
    for seed in range(20):
        rng = numpy_generator(seed, "toy")
        places = rng.normal(size=(5, dim)) * apart / dim**0.5
        y = np.repeat(np.arange(5), sizes)
        x = places[y] + rng.normal(size=(len(y), dim))
        fitted = ClassGaussians(outlier="none", weighting=weighting, head_mass=0.9).fit(x, y)
        tails = [3, 4]
        assert not set(tails) & set(fitted.head_classes_.tolist())
        plain += float(np.square(fitted.means_[tails].numpy() - places[tails]).sum())
        calibrated += float(np.square(fitted.calibrated_means_[tails].numpy() - places[tails]).sum())
    assert (calibrated < plain) is better
    # Where nothing is borrowed the error is m / n.
    assert plain / 20 == pytest.approx(dim / 15 + dim / 5, rel=0.15)


@pytest.mark.parametrize("ridge", ["ones", "eye"])
def test_the_bound_of_the_expected_loss_is_above_it(ridge: str) -> None:
    x, y = problem()
    fitted = ClassGaussians(outlier="none", ridge=ridge, alpha=0.3, head_mass=0.9).fit(x, y)
    rng = generator(0, "bound")
    weights = torch.randn(7, DIM, generator=rng).double() * 0.2
    bias = torch.randn(7, generator=rng).double()
    codes = torch.tensor([6, 0, 4, 6])
    bound = expected_cross_entropy_bound(weights, bias, fitted, codes)
    assert bound[0] == bound[3]
    for code, above in zip(codes.tolist(), bound.tolist(), strict=True):
        drawn = fitted.draw(torch.full((20_000,), code), rng)
        losses = torch.nn.functional.cross_entropy(
            drawn @ weights.T + bias, torch.full((20_000,), code), reduction="none"
        )
        error = losses.std().item() / 20_000**0.5
        assert above >= losses.mean().item() - 4 * error
        difference = weights - weights[code]
        spread = (difference @ fitted.covariance(code) * difference).sum(1)
        logits = difference @ fitted.calibrated_means_[code] + bias - bias[code] + spread / 2
        assert above == pytest.approx(torch.logsumexp(logits, 0).item(), rel=1e-9)


def test_the_bound_is_the_loss_where_nothing_varies() -> None:
    """Classes of one item each: covariances of zero, and no ridge."""
    x = torch.randn(3, 4, generator=generator(0, "x")).double()
    fitted = ClassGaussians(alpha=0).fit(x, [0, 1, 2])
    weights = torch.randn(3, 4, generator=generator(0, "w")).double().requires_grad_()
    codes = torch.tensor([2, 0, 1])
    bound = expected_cross_entropy_bound(weights, None, fitted, codes)
    expected = torch.nn.functional.cross_entropy(
        fitted.calibrated_means_[codes] @ weights.T, codes, reduction="none"
    )
    assert torch.allclose(bound, expected)
    assert torch.autograd.gradcheck(
        lambda w: expected_cross_entropy_bound(w, None, fitted, codes), (weights,)
    )
    assert expected_cross_entropy_bound(weights, None, fitted, codes[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"weights, bias: shapes \(3, 4\) and \(3,\) expected, got \(3, 5\)"):
        expected_cross_entropy_bound(torch.zeros(3, 5), None, fitted, codes)
