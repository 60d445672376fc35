"""Two recommenders on the same users: against a slow loop, and what is kept of a run for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfar.errors import ConfigError, DataError
from nearfar.recsys import LeaveOneOut, Popularity, PopularityConfig
from nearfar.recsys.bootstrap import paired_bootstrap
from nearfar.recsys.ranking import METRICS, evaluate, ranking_metrics, target_ranks
from nearfar.recsys.ranks import TestRanks
from nearfar.runtime import numpy_generator


@pytest.mark.parametrize("metric", ["hr_at_5", "ndcg_at_10", "mrr_at_20"])
def test_equals_a_loop_over_drawn_users(metric: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 30, size=(2, 60))
    k = int(metric.rpartition("_")[2])
    found = paired_bootstrap(a, b, metric, samples=400, seed=5)
    differences = [
        ranking_metrics(a[users], [k])[metric] - ranking_metrics(b[users], [k])[metric]
        for users in numpy_generator(5, "bootstrap").integers(60, size=(400, 60))
    ]
    assert found.n == 60
    assert found.mean == pytest.approx(ranking_metrics(a, [k])[metric] - ranking_metrics(b, [k])[metric])
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])))
    fewer = min(sum(d <= 1e-15 for d in differences), sum(d >= -1e-15 for d in differences))
    assert found.p_value == pytest.approx(2 * (fewer + 1) / 401)


def test_sides_and_seeds() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 15, size=(3, 80)), rng.integers(0, 15, size=(1, 80))
    there, back = paired_bootstrap(a, b, samples=500), paired_bootstrap(b[0], a, samples=500)
    assert there.mean == pytest.approx(-back.mean)
    assert there.low == pytest.approx(-back.high)
    assert there.p_value == back.p_value
    mean = np.mean([ranking_metrics(seed)["ndcg_at_10"] for seed in a])
    assert there.mean == pytest.approx(mean - ranking_metrics(b[0])["ndcg_at_10"])
    same = paired_bootstrap(a, a, samples=50)
    assert (same.mean, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_pairing_counts() -> None:
    """The same small lead of every user is certain; the same lead in the mean, shuffled, is not."""
    rng = np.random.default_rng(2)
    b = rng.integers(1, 9, size=200)
    paired = paired_bootstrap(b - 1, b, samples=500)
    shuffled = paired_bootstrap(rng.permutation(b - 1), b, samples=500)
    assert paired.mean == pytest.approx(shuffled.mean)
    assert paired.high - paired.low < 0.8 * (shuffled.high - shuffled.low)


def test_refusals() -> None:
    ranks = np.arange(5)
    with pytest.raises(DataError, match="got 5 and 4"):
        paired_bootstrap(ranks, ranks[:4])
    with pytest.raises(DataError, match="two at least; got 1 and 1"):
        paired_bootstrap(ranks[:1], ranks[:1])
    for metric in ("ndcg", "auc_at_10", "hr_at_0", "hr_at_x", "hr_at_10_filtered"):
        with pytest.raises(ConfigError, match=f"expected, got '{metric}'"):
            paired_bootstrap(ranks, ranks, metric)


def test_kept_ranks_give_the_metrics_back(split: LeaveOneOut, tmp_path: Path) -> None:
    score = Popularity(PopularityConfig(), split).scorer.score
    ranks = target_ranks(score, split, "test")
    TestRanks.of(split, ranks).write(tmp_path / "ranks.npz")
    read = TestRanks.read(tmp_path / "ranks.npz")
    assert read.users == TestRanks.of(split, ranks).users
    for protocol, values in ranks.items():
        assert read.ranks[protocol].dtype == np.int32
        assert np.array_equal(read.ranks[protocol], values)
    expected = evaluate(score, split, "test")
    assert {metric: read.values(metric).mean() for metric in METRICS} == expected
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.npz"]


def test_other_users_or_targets_are_told_apart(split: LeaveOneOut) -> None:
    ranks = {"": np.zeros(3, np.int64), "_filtered": np.zeros(3, np.int64)}
    users = TestRanks.of(split, ranks).users
    fewer = LeaveOneOut(split.data, split.train_ends, split.users[1:])
    earlier = LeaveOneOut(split.data, split.train_ends - 1, split.users)
    assert len({users, TestRanks.of(fewer, ranks).users, TestRanks.of(earlier, ranks).users}) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ranks.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not hold the ranks of a run"):
        TestRanks.read(path)
    with pytest.raises(DataError, match="does not hold the ranks of a run"):
        TestRanks.read(tmp_path / "absent.npz")
    np.savez(path, users=np.array("x"), filtered=np.zeros(3))
    with pytest.raises(DataError, match="unfiltered"):
        TestRanks.read(path)
