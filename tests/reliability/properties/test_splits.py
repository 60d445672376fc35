"""P06: whatever is learnt from is apart from what is tested on, nothing is lost, and it is the same each time."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from nearfar.classification.datasets import LabelledDataset
from nearfar.classification.settings import ImbalanceConfig, NoiseConfig
from nearfar.classification.training_rows import training_rows
from nearfar.errors import ConfigError, DataError
from nearfar.graph.split import random_split
from nearfar.labels import long_tail, rows_per_class
from nearfar.labels.long_tail import long_tail_counts
from nearfar.recsys import Interactions, leave_one_out
from nearfar.recsys.split import LeaveOneOut, nothing_held_out, temporal_split
from nearfar.recsys.windows import make_windows
from nearfar.runtime import numpy_generator
from nearfar.sampling import ClusterBatchSampler
from nearfar.timeseries.classification.folds import NEVER, stratified_folds
from nearfar.timeseries.classification.svm_probe import stratified_sample
from nearfar.timeseries.forecasting.split import ForecastSplit, Part, anchor_rows

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given
from hypothesis import strategies as st

PARTS: tuple[Part, ...] = ("train", "val", "test")
seeds = st.integers(0, 2**32)
classes = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(lambda y: np.array(y, np.int64))
event = st.tuples(st.integers(0, 4), st.sampled_from("abcdefg"), st.integers(0, 12))
# One user at least has the four events that leave something to learn when two are held out.
regular = st.lists(st.tuples(st.just(0), st.sampled_from("abc"), st.integers(0, 12)), min_size=4, max_size=6)
events = st.tuples(regular, st.lists(event, max_size=40)).map(lambda parts: parts[0] + parts[1])


def columns(rows: list[tuple[int, str, int]]) -> Interactions:
    users, items, times = zip(*rows, strict=True)
    return Interactions.from_columns(users, items, times, ties="item")


def check_users(split: LeaveOneOut) -> None:
    """Histories, targets and what follows them are a user's events in order, none of them twice."""
    data = split.data
    assert data.times is not None
    evaluated = set(split.users.tolist())
    for user in range(data.num_users):
        sequence, times = data.sequence(user), data.times[data.offsets[user] : data.offsets[user + 1]]
        assert (np.diff(times) >= 0).all()
        learnt = split.train(user)
        assert learnt.tolist() == sequence[: len(learnt)].tolist()
        if user in evaluated:
            place = split.users.tolist().index(user)
            val, test = (split.targets(part)[place] for part in ("val", "test"))
            assert sequence[len(learnt) : len(learnt) + 2].tolist() == [val, test]
            assert split.history(user, "val").tolist() == learnt.tolist()
            assert split.history(user, "test").tolist() == [*learnt.tolist(), val]
    counts = Counter(
        itertools.chain.from_iterable(split.train(user).tolist() for user in range(data.num_users))
    )
    assert split.item_counts().tolist() == [counts[item] for item in range(1, data.num_items + 1)]


@pytest.mark.row("P06")
@given(events | st.lists(event, min_size=1, max_size=6), seeds)
def test_leave_one_out(rows: list[tuple[int, str, int]], seed: int) -> None:
    data = columns(rows)
    if data.lengths.max() < 3 or (data.lengths.max() < 4 and not (data.lengths == 2).any()):
        with pytest.raises(DataError, match="no user has (3 events or more|2 training events)"):
            leave_one_out(data)
        return
    split = leave_one_out(data)
    check_users(split)
    by_user = defaultdict(list)
    for user, item, time in rows:
        by_user[user].append((time, item))
    for user, target in zip(split.users, split.targets("test"), strict=True):
        mine = sorted(by_user[data.user_ids[user]])
        assert data.item_ids[target - 1] == mine[-1][1]
    for user in range(data.num_users):
        held = data.lengths[user] - len(split.train(user))
        assert held == (2 if len(by_user[data.user_ids[user]]) >= 3 else 0)
    order = np.random.default_rng(seed).permutation(len(rows))
    again = leave_one_out(columns([rows[place] for place in order]))
    assert np.array_equal(again.train_ends, split.train_ends)
    assert np.array_equal(again.data.items, data.items)


@pytest.mark.row("P06")
@given(events, st.floats(0.05, 0.95))
def test_a_split_by_time_learns_nothing_from_later(rows: list[tuple[int, str, int]], quantile: float) -> None:
    data = columns(rows)
    try:
        split = temporal_split(data, quantile)
    except DataError:
        moment = np.quantile([time for *_, time in rows], quantile, method="higher")
        before = Counter(user for user, _, time in rows if time < moment)
        after = Counter(user for user, _, time in rows if time >= moment)
        fits = any(before[user] >= 1 and after[user] >= 2 for user in before)
        assert not fits or max(before.values()) < 2
        return
    check_users(split)
    assert data.times is not None
    trained = np.concatenate(
        [data.times[data.offsets[u] : split.train_ends[u]] for u in range(data.num_users)]
    )
    targets = [data.times[split.train_ends[split.users] + step] for step in (0, 1)]
    assert trained.max() < np.min(targets)


@pytest.mark.row("P06")
@given(events, st.integers(1, 5), st.integers(1, 5))
def test_windows_hold_training_events_alone(
    rows: list[tuple[int, str, int]], longest: int, stride: int
) -> None:
    stride = min(stride, longest)
    data = columns(rows)
    for split in (leave_one_out(data), nothing_held_out(data)):
        found = make_windows(split, longest, stride)
        targets: list[int] = []
        owner = np.repeat(np.arange(data.num_users), data.lengths)
        for start, stop, scored in zip(found.start, found.stop, found.scored, strict=True):
            user = owner[start]
            assert data.offsets[user] <= start
            assert stop <= split.train_ends[user], "an item to be tested on is learnt from"
            assert 1 <= stop - start - 1 <= longest
            targets += range(start + 1 + scored, stop)
        expected = [
            place
            for user in range(data.num_users)
            for place in range(int(data.offsets[user]) + 1, int(split.train_ends[user]))
        ]
        assert sorted(targets) == expected, "every training event but the first is predicted once"


@pytest.mark.row("P06")
@given(
    st.integers(1, 400), st.floats(0.05, 0.9), st.floats(0.05, 0.9), st.integers(1, 30), st.integers(0, 60)
)
def test_forecasts(num_rows: int, train: float, val: float, horizon: int, first: int) -> None:
    val = min(val, 0.95 - train)
    try:
        split = ForecastSplit.by_shares(num_rows, train, val)
    except DataError:
        assert (
            min(int(num_rows * train), int(num_rows * (train + val)) - int(num_rows * train)) < 1
            or num_rows < 3
        )
        return
    bounds = [split.bounds(part) for part in PARTS]
    assert list(itertools.chain.from_iterable(range(*pair) for pair in bounds)) == list(range(num_rows))
    for part in PARTS:
        start, stop = split.bounds(part)
        rows = anchor_rows(split, part, horizon, first)
        for t in rows:
            assert t >= first
            assert start <= t + 1
            assert t + horizon < stop, "a target is in another part"
        assert list(rows) == [t for t in range(start, stop) if t >= first and t + horizon < stop]


@pytest.mark.row("P06")
@given(st.integers(1, 300), st.floats(0.01, 0.9), st.floats(0.01, 0.9), seeds)
def test_nodes(count: int, train: float, val: float, seed: int) -> None:
    shares = (train, val)
    if train + val >= 1:
        with pytest.raises(ConfigError, match="fractions"):
            random_split(count, np.random.default_rng(seed), shares)
        return
    sizes = [int(count * share + 1e-9) for share in shares]
    sizes.append(count - sum(sizes))
    if min(sizes) < 1:
        with pytest.raises(DataError, match="nodes cannot be split"):
            random_split(count, np.random.default_rng(seed), shares)
        return
    masks = random_split(count, np.random.default_rng(seed), shares)
    assert [int(mask.sum()) for mask in masks] == sizes
    assert bool((torch.stack(masks).sum(0) == 1).all()), "every node is in one part"
    again = random_split(count, np.random.default_rng(seed), shares)
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))


@pytest.mark.row("P06")
@given(classes, st.integers(2, 8), seeds)
def test_stratified_folds(y: Any, folds: int, seed: int) -> None:
    sizes = Counter(y.tolist())
    if max(sizes.values()) < 2:
        with pytest.raises(DataError, match="nothing can be held out"):
            stratified_folds(y, folds, seed)
        return
    fold = stratified_folds(y, folds, seed)
    used = sorted(set(fold.tolist()) - {NEVER})
    assert used == list(range(len(used)))
    assert 2 <= len(used) <= folds
    for label, size in sizes.items():
        counts = Counter(fold[y == label].tolist())
        if size == 1:
            assert set(counts) == {NEVER}
            continue
        assert NEVER not in counts
        assert max(counts[k] for k in used) - min(counts[k] for k in used) <= 1
        assert all(counts[k] < size for k in used), "a class to predict that was never seen"
    held = Counter(fold[fold != NEVER].tolist())
    assert max(held.values()) - min(held.values()) <= 1
    assert np.array_equal(fold, stratified_folds(y, folds, seed))


@pytest.mark.row("P06")
@given(classes, st.integers(1, 50), seeds)
def test_stratified_samples(y: Any, size: int, seed: int) -> None:
    rows = stratified_sample(y, size, seed)
    assert (np.diff(rows) > 0).all()
    sizes = Counter(y.tolist())
    assert len(rows) == (len(y) if len(y) <= size else max(size, len(rows)))
    # One of each at least: a class whose share is below one row comes on top of the size.
    assert len(rows) <= size + sum(count * size < len(y) for count in sizes.values())
    chosen = Counter(y[rows].tolist())
    assert set(chosen) == set(sizes)
    if len(y) > size:
        for label, count in sizes.items():
            assert chosen[label] <= count
            assert chosen[label] == 1 or abs(chosen[label] - count * size / len(y)) < 1 + len(sizes)
    assert np.array_equal(rows, stratified_sample(y, size, seed))


@pytest.mark.row("P06")
@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.floats(1, 50),
    st.sampled_from(["exp", "step"]),
    seeds,
)
def test_long_tails(sizes: list[int], ratio: float, profile: Any, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = long_tail(labels, ratio, profile=profile, rng=numpy_generator(seed, "tail"))
    assert (np.diff(rows) > 0).all()
    kept = np.bincount(labels[rows], minlength=len(sizes))
    assert kept.min() >= 1
    assert (kept <= sizes).all()
    assert (np.diff(kept) <= 0).all()
    assert kept.tolist() == long_tail_counts(int(kept[0]), len(sizes), ratio, profile).tolist()
    if kept[0] < sizes[0]:  # one more row of the largest class, and another class would run out
        assert (long_tail_counts(int(kept[0]) + 1, len(sizes), ratio, profile) > sizes).any()
    assert np.array_equal(rows, long_tail(labels, ratio, profile=profile, rng=numpy_generator(seed, "tail")))


@pytest.mark.row("P06")
@given(classes, st.data(), seeds)
def test_rows_of_classes(y: Any, data: st.DataObject, seed: int) -> None:
    wanted = data.draw(st.lists(st.integers(0, 12), min_size=5, max_size=5))
    rows = rows_per_class(y, wanted, numpy_generator(seed, "rows"))
    assert (np.diff(rows) > 0).all()
    sizes, kept = np.bincount(y, minlength=5), np.bincount(y[rows], minlength=5)
    assert kept.tolist() == np.minimum(sizes, wanted).tolist()
    assert np.array_equal(rows, rows_per_class(y, wanted, numpy_generator(seed, "rows")))


@pytest.mark.row("P06")
@given(
    st.lists(st.integers(2, 25), min_size=2, max_size=4),
    st.none() | st.floats(1, 20),
    st.none() | st.floats(0, 0.9),
    st.floats(0, 0.6),
    seeds,
)
def test_rows_to_learn_from(
    sizes: list[int], ratio: float | None, rate: float | None, validation: float, seed: int
) -> None:
    y = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(1))
    every = torch.arange(len(sizes))
    dataset = LabelledDataset("toy", "toy", x, y, x[: len(sizes)], every, tuple(range(len(sizes))))
    imbalance = None if ratio is None else ImbalanceConfig(ratio=ratio)
    noise = None if rate is None else NoiseConfig(rate=rate, kind="sym")
    try:
        found = training_rows(dataset, imbalance, noise, seed=seed, validation=validation)
    except DataError as error:
        assert "is none; raise it" in str(error) or "largest" in str(error)  # noqa: PT017 - either is right
        return
    learnt, held = found.rows.tolist(), found.held.tolist()
    assert not set(learnt) & set(held)
    assert len(set(learnt) | set(held)) == len(learnt) + len(held)
    if imbalance is None:
        assert sorted([*learnt, *held]) == list(range(len(y)))
    if noise is None:
        assert torch.equal(found.given, y[found.rows])
        assert torch.equal(found.held_given, y[found.held])
    else:
        assert found.true is not None
        assert torch.equal(found.true, y[found.rows])
    given_all = torch.cat([found.given, found.held_given]).bincount(minlength=len(sizes))
    expected = (validation * given_all.double() + 1e-9).long()
    assert found.held_given.bincount(minlength=len(sizes)).tolist() == expected.tolist()
    again = training_rows(dataset, imbalance, noise, seed=seed, validation=validation)
    assert torch.equal(again.rows, found.rows)
    assert torch.equal(again.given, found.given)


@pytest.mark.row("P06")
@given(classes, st.integers(1, 4), st.integers(1, 3), seeds, st.integers(0, 5))
def test_batches_of_clusters_cover_every_row_once(
    y: Any, share: int, processes: int, seed: int, epoch: int
) -> None:
    clusters = torch.from_numpy(y)
    size = share * processes
    parts = [
        ClusterBatchSampler(clusters, size, seed=seed, rank=rank, world_size=processes).batches(epoch)
        for rank in range(processes)
    ]
    assert len({len(part) for part in parts}) == 1, "processes make as many steps"
    rows = [row for part in parts for batch in part for row in batch.tolist()]
    assert len(rows) == len(set(rows))
    left = set(range(len(y))) - set(rows)
    assert len(left) < processes, "fewer rows than can be shared"
    whole = [clusters[torch.cat(step)] for step in zip(*parts, strict=True)]
    assert all(len(batch) == size for batch in whole[:-1])
    complete = sum(count // size for count in Counter(y.tolist()).values())
    assert sum(len(set(batch.tolist())) == 1 and len(batch) == size for batch in whole) >= complete
