"""Which items are left out: against scikit-learn and a slow loop, and that no class is ever emptied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.calibration.gaussians import ClassGaussians, inliers
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import numpy_generator


def clusters(
    sizes: Sequence[int], noise: float, dim: int = 10, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters, true classes, and given ones of which a share is another class, larger ones more often."""
    rng = numpy_generator(seed, "clusters")
    true = np.repeat(np.arange(len(sizes)), sizes)
    x = (rng.normal(size=(len(sizes), dim)) * 4)[true] + rng.normal(size=(len(true), dim))
    given = true.copy()
    for row in rng.permutation(len(true))[: int(noise * len(true))]:
        others = np.array(sizes, dtype=float)
        others[true[row]] = 0
        given[row] = rng.choice(len(sizes), p=others / others.sum())
    return torch.from_numpy(x), torch.from_numpy(true), torch.from_numpy(given)


def test_lof_is_that_of_scikit_learn_within_each_class() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    x, _, given = clusters((120, 40, 9), 0.2)
    kept = inliers(x, given, "lof")
    for k in range(3):
        rows = x[given == k].numpy()
        oracle = neighbors.LocalOutlierFactor(n_neighbors=min(20, len(rows) - 1)).fit(rows)
        assert kept[given == k].tolist() == (oracle.negative_outlier_factor_ >= -1.5).tolist()
    assert 0 < (~kept).sum() < 30


def test_knn_is_a_loop_over_all_items() -> None:
    x, _, given = clusters((40, 20, 8), 0.3)
    kept = inliers(x, given, "knn", keep=0.5, neighbors=7)
    unit = (x / x.norm(dim=1, keepdim=True)).numpy()
    codes, count = given.numpy(), np.bincount(given.numpy())
    scores = np.zeros(len(x))
    for row in range(len(x)):
        similar = unit @ unit[row]
        similar[row] = -np.inf
        voters = codes[np.argsort(-similar)[:7]]
        votes = np.array([(voters == k).sum() / count[k] for k in range(3)])
        scores[row] = votes[codes[row]] / votes.sum()
    for k in range(3):
        mine, taken = codes == k, kept.numpy()
        assert (mine & taken).sum() == max(int(np.ceil(0.5 * mine.sum())), 2)
        # Of equal scores rounding decides.
        assert scores[mine & taken].min() >= scores[mine & ~taken].max() - 1e-9


@pytest.mark.parametrize("kind", ["lof", "knn", "none"])
def test_of_every_class_two_items_are_kept_or_all_it_has(kind: str) -> None:
    for seed in range(5):
        x, _, given = clusters((30, 7, 5, 4, 2, 1), 0.4, dim=3, seed=seed)
        # A threshold and a share that leave nothing by themselves.
        kept = inliers(x, given, kind, keep=1e-9, threshold=1e-9)
        for k in range(6):
            size = int((given == k).sum())
            assert int(kept[given == k].sum()) >= min(2, size), (seed, k)
            if kind == "knn" or (kind == "lof" and size >= 5):
                assert int(kept[given == k].sum()) == min(2, size)
            else:
                assert bool(kept[given == k].all())


def test_the_order_of_the_items_does_not_matter() -> None:
    """To densities; votes have ties, of which the lower row is kept."""
    x, _, given = clusters((60, 30, 9), 0.3)
    order = torch.from_numpy(numpy_generator(0, "order").permutation(len(x)))
    kept = inliers(x, given, threshold=1.1)
    assert 0 < (~kept).sum() < 50
    assert torch.equal(inliers(x[order], given[order], threshold=1.1), kept[order])


@pytest.mark.parametrize("kind", ["lof", "knn", "none"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_items(kind: str, count: int) -> None:
    x, given = torch.arange(float(count)).unsqueeze(1), torch.zeros(count, dtype=torch.int64)
    assert inliers(x, given, kind).sum() >= min(count, 2)


@pytest.mark.parametrize("kind", ["lof", "knn"])
def test_copies_of_one_row_and_rows_of_zeros(kind: str) -> None:
    x = torch.zeros(40, 3)
    given = torch.tensor([0] * 30 + [1] * 10)
    fitted = ClassGaussians(outlier=kind).fit(x, given)
    assert fitted.sample(3)[0].isfinite().all()
    assert fitted.donor_weights_[1].tolist() == [1.0]
    assert (fitted.kept_counts_ >= 2).all()


def test_neighbours_find_wrong_labels_where_density_does_not() -> None:
    x, true, given = clusters((300, 150, 80, 40, 20), 0.4)
    right = (true == given).double()
    purity = {kind: right[inliers(x, given, kind)].mean().item() for kind in ("none", "lof", "knn")}
    assert purity["lof"] < purity["none"] + 0.1
    # At best 0.91: of some classes less than the share that is kept has the right label.
    assert purity["knn"] > 0.84


def test_the_mask_is_what_the_statistics_are_made_of() -> None:
    x, _, given = clusters((60, 30, 9), 0.3)
    for kind in ("lof", "knn", "none"):
        fitted = ClassGaussians(outlier=kind, keep=0.7, threshold=1.2, neighbors=9).fit(x, given)
        expected = inliers(x, given, kind, keep=0.7, threshold=1.2, neighbors=9)
        assert torch.equal(fitted.inlier_mask_, expected)
        for k in range(3):
            assert torch.allclose(fitted.means_[k], x[expected & (given == k)].mean(0))


def test_what_cannot_be_filtered() -> None:
    x, _, given = clusters((9, 4), 0.0)
    with pytest.raises(ConfigError, match="outlier: 'lof' or 'knn' or 'none' expected, got 'iso'"):
        inliers(x, given, "iso")
    with pytest.raises(ConfigError, match="keep: a share in"):
        inliers(x, given, "knn", keep=0)
    with pytest.raises(DataError, match="codes: one for each of the 13 rows expected, got 12"):
        inliers(x, given[1:])
    with pytest.raises(DataError, match="codes: class codes from 0 and below 1 expected, got 1 in row 9"):
        inliers(x, given, num_classes=1)
    x[3, 0] = torch.nan
    with pytest.raises(DataError, match="features: row 3 is not finite"):
        inliers(x, given)
