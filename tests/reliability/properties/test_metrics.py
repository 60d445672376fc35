"""P07: every number that a report shows, against counting by hand or scikit-learn; ties and empty sets included."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import DataError
from nearfar.labels import (
    accuracy_by_frequency,
    balanced_accuracy,
    by_frequency,
    classification_scores,
    empirical_transition,
    head_classes,
    label_agreement,
    purity,
    recall_by_class,
)
from nearfar.longtail.hidden_classes import subclass_purity
from nearfar.objectives.statistics import alignment, effective_rank, isotropy, top1_retrieval, uniformity
from nearfar.pipelines.significance import holm
from nearfar.recsys import Interactions, leave_one_out
from nearfar.recsys.by_popularity import metrics_by_popularity, popularity_bounds
from nearfar.recsys.diversity import relative_scores
from nearfar.recsys.mmr import mmr_rerank
from nearfar.recsys.ranking import (
    CUTOFFS,
    FILTERED,
    evaluate,
    hide_seen,
    rank_of_target,
    ranking_metrics,
    seen_ahead,
    target_ranks,
)
from nearfar.resampling import bootstrap
from nearfar.timeseries.forecasting.choice import fit_errors, naive_errors
from nearfar.timeseries.forecasting.ridge import RidgeFit
from nearfar.timeseries.forecasting.samples import ChannelSamples

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, given
from hypothesis import strategies as st

codes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=20)
ranks = st.lists(st.integers(0, 30), min_size=1, max_size=20)


@st.composite
def scored(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[Any]]:
    """Scores ``(N, items)`` with many ties, targets and histories, some of which hold the target or nothing."""
    count, items = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    number = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 1e30])
    scores = draw(st.lists(st.lists(number, min_size=items, max_size=items), min_size=count, max_size=count))
    targets = draw(st.lists(st.integers(0, items - 1), min_size=count, max_size=count))
    histories = [draw(st.lists(st.integers(1, items), max_size=6)) for _ in range(count)]
    return torch.tensor(scores), torch.tensor(targets), [np.array(history, np.int64) for history in histories]


@pytest.mark.row("P07")
@given(scored())
def test_ranks_among_all_and_among_unseen_items(batch: tuple[Tensor, Tensor, list[Any]]) -> None:
    """Ties count against the target; it is never hidden itself, though the history may hold it."""
    scores, targets, histories = batch
    rank, seen = rank_of_target(scores, targets), seen_ahead(scores, targets, histories)
    hidden = hide_seen(scores, histories)
    rows = zip(
        scores.tolist(),
        targets.tolist(),
        histories,
        rank.tolist(),
        seen.tolist(),
        hidden.tolist(),
        strict=True,
    )
    for row, target, history, place, ahead, left in rows:
        others = [item for item in range(len(row)) if item != target]
        assert place == sum(row[item] >= row[target] for item in others)
        unseen = [item for item in others if item + 1 not in history]
        assert place - ahead == sum(row[item] >= row[target] for item in unseen)
        assert left == [-math.inf if item + 1 in history else value for item, value in enumerate(row)]


def of_list(rank: int, k: int) -> dict[str, float]:
    """HR, NDCG and MRR of one list of k in which one item is right, from their definitions as sums over the list."""
    gains = [1.0 if place == rank else 0.0 for place in range(k)]
    dcg = sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))
    return {
        "hr": sum(gains),
        "ndcg": dcg,
        "mrr": max((gain / (place + 1) for place, gain in enumerate(gains)), default=0),
    }


@pytest.mark.row("P07")
@given(ranks, st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True))
def test_ranking_metrics(found: list[int], cutoffs: list[int]) -> None:
    metrics = ranking_metrics(np.array(found), cutoffs)
    for k in cutoffs:
        lists = [of_list(rank, k) for rank in found]
        for name in ("hr", "ndcg", "mrr"):
            expected = math.fsum(one[name] for one in lists) / len(lists)
            assert metrics[f"{name}_at_{k}"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.row("P07")
@given(ranks, st.integers(1, 35))
def test_ndcg_is_that_of_scikit_learn(found: list[int], k: int) -> None:
    """Where no scores are equal there is one order, and its metric is defined in the same way."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    items = 32
    scores = np.tile(np.arange(items, 0, -1.0), (len(found), 1))
    right = np.zeros((len(found), items))
    right[np.arange(len(found)), found] = 1
    expected = sklearn.ndcg_score(right, scores, k=k)
    assert ranking_metrics(np.array(found), [k])[f"ndcg_at_{k}"] == pytest.approx(expected)


sequences = st.dictionaries(
    st.integers(0, 20), st.lists(st.integers(0, 8), min_size=1, max_size=7), min_size=1, max_size=8
)


@pytest.mark.row("P07")
@given(sequences, st.integers(0, 2**16), st.integers(1, 5))
def test_evaluation_of_a_split(found: dict[int, list[int]], seed: int, batch_size: int) -> None:
    assume(max(map(len, found.values())) >= 4)
    split = leave_one_out(Interactions.from_sequences(found))
    data = split.data
    # Few different values: ties everywhere.
    table = torch.randint(
        3, (data.num_users, data.num_items), generator=torch.Generator().manual_seed(seed)
    ).float()
    rows = {(tuple(split.history(int(user), "test"))): table[int(user)] for user in split.users}

    def score(histories: list[Any]) -> Tensor:
        return torch.stack([rows[tuple(history)] for history in histories])

    expected: dict[str, list[dict[int, dict[str, float]]]] = {"": [], FILTERED: []}
    for user, target in zip(split.users, split.targets("test"), strict=True):
        history = split.history(int(user), "test").tolist()
        row = rows[tuple(history)].tolist()
        for protocol in expected:
            candidates = [
                item
                for item in range(1, data.num_items + 1)
                if item == target or not protocol or item not in history
            ]
            ahead = sum(row[item - 1] >= row[target - 1] for item in candidates if item != target)
            expected[protocol].append({k: of_list(ahead, k) for k in CUTOFFS})
    metrics = evaluate(score, split, "test")
    assert set(metrics) == {
        f"{n}_at_{k}{p}" for p in expected for k in CUTOFFS for n in ("hr", "ndcg", "mrr")
    }
    for protocol, lists in expected.items():
        for k, name in itertools.product(CUTOFFS, ("hr", "ndcg", "mrr")):
            mean = math.fsum(one[k][name] for one in lists) / len(lists)
            assert metrics[f"{name}_at_{k}{protocol}"] == pytest.approx(mean, abs=1e-12)
    batched = target_ranks(score, split, "test", batch_size=batch_size)
    assert all(
        np.array_equal(batched[name], whole) for name, whole in target_ranks(score, split, "test").items()
    )


@pytest.mark.row("P07")
@given(sequences, st.data())
def test_metrics_by_popularity(found: dict[int, list[int]], data: st.DataObject) -> None:
    assume(max(map(len, found.values())) >= 4)
    split = leave_one_out(Interactions.from_sequences(found))
    number = len(split.users)
    places = data.draw(st.lists(st.integers(0, 15), min_size=number, max_size=number))
    trained: Counter[int] = Counter(
        item for user in range(split.data.num_users) for item in split.train(user).tolist()
    )
    counts = [trained[item] for item in range(1, split.data.num_items + 1)]
    low, high = popularity_bounds(np.array(counts))
    events = sum(counts)
    assert low <= high
    assert (
        sum(c for c in counts if c < low) <= 0.4 * events
    )  # an edge's items belong where most of their events lie
    groups = defaultdict(list)
    for target, rank in zip(split.targets("test").tolist(), places, strict=True):
        often = trained[target]
        groups["tail" if often < low else "head" if often > high else "medium"].append(of_list(rank, 10))
    expected = {
        f"{name}_at_10_{group}": pytest.approx(math.fsum(one[name] for one in lists) / len(lists))
        for group, lists in groups.items()
        for name in ("hr", "ndcg")
    }
    assert metrics_by_popularity(np.array(places), split) == expected


@pytest.mark.row("P07")
@given(codes)
def test_accuracies_of_classes(pairs: list[tuple[int, int]]) -> None:
    true, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    hits = {k: [b == k for a, b in pairs if a == k] for k in sorted(set(true))}
    recalls = {k: sum(found) / len(found) for k, found in hits.items()}
    assert recall_by_class(true, predicted) == pytest.approx(recalls)
    if not pairs:
        with pytest.raises(DataError, match="no items"):
            balanced_accuracy(true, predicted)
        return
    assert balanced_accuracy(true, predicted) == pytest.approx(sum(recalls.values()) / len(recalls))
    counts = [500, 100, 50, 20, 19]
    groups: dict[str, list[float]] = defaultdict(list)
    for k, recall in recalls.items():
        groups["many" if k == 0 else "few" if k == 4 else "medium"].append(recall)
    by_group = {name: pytest.approx(sum(found) / len(found)) for name, found in groups.items()}
    assert accuracy_by_frequency(true, predicted, counts) == by_group
    scores = classification_scores(true, predicted, counts)
    assert scores["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert scores == {
        **by_group,
        "accuracy": scores["accuracy"],
        "balanced_accuracy": pytest.approx(sum(recalls.values()) / len(recalls)),
    }


@pytest.mark.row("P07")
@given(codes)
def test_accuracies_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """F1 of node classes is scikit-learn's own; micro F1 is what single test cases are compared by, a share of hits."""
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    assume(pairs)
    true, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    known = sorted(set(true))
    recalls = sklearn.recall_score(true, predicted, labels=known, average=None, zero_division=0)
    assert list(recall_by_class(true, predicted).values()) == pytest.approx(recalls.tolist())
    assert balanced_accuracy(true, predicted) == pytest.approx(recalls.mean())
    micro = sklearn.f1_score(true, predicted, average="micro")
    assert micro == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    table = empirical_transition(true, predicted, 5)
    expected = sklearn.confusion_matrix(true, predicted, labels=range(5)).astype(float)
    empty = expected.sum(1) == 0
    expected[empty] = np.eye(5)[empty]
    assert table == pytest.approx(expected / expected.sum(1, keepdims=True))


@pytest.mark.row("P07")
@given(st.lists(st.tuples(st.floats(-9, 9) | st.just(math.nan), st.integers(0, 9)), max_size=15), st.data())
def test_means_by_frequency(pairs: list[tuple[float, int]], data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    groups: dict[str, list[float]] = defaultdict(list)
    for value, often in pairs:
        if not math.isnan(value):
            groups["few" if often < low else "many" if often > high else "medium"].append(value)
    expected = {
        name: pytest.approx(math.fsum(found) / len(found), abs=1e-9) for name, found in groups.items()
    }
    assert by_frequency([v for v, _ in pairs], [n for _, n in pairs], bounds=(low, high)) == expected


@pytest.mark.row("P07")
@given(codes, st.data())
def test_purities(pairs: list[tuple[int, int]], data: st.DataObject) -> None:
    true, given_labels = [a for a, _ in pairs], [b for _, b in pairs]
    kept = data.draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    subset = sorted(data.draw(st.sets(st.integers(0, 4))))
    found = purity(true, given_labels, np.array(kept, dtype=bool), subset=subset)
    left = [(a, b) for (a, b), keep in zip(pairs, kept, strict=True) if keep]

    def share(some: Sequence[tuple[int, int]]) -> float | None:
        return sum(a == b for a, b in some) / len(some) if some else None

    assert found.share_kept == pytest.approx(len(left) / max(len(pairs), 1))
    assert found.overall == pytest.approx(share(left))
    assert found.by_class == pytest.approx(
        {k: share([p for p in left if p[1] == k]) for k in {b for _, b in left}}
    )
    assert found.subset == pytest.approx(share([p for p in left if p[1] in subset]))
    if not pairs:
        with pytest.raises(DataError, match="no row"):
            subclass_purity([], [])
        return
    most = sum(Counter(b for a, b in pairs if a == part).most_common(1)[0][1] for part in set(true))
    assert subclass_purity(true, given_labels) == pytest.approx(most / len(pairs))


@pytest.mark.row("P07")
@given(st.lists(st.integers(0, 50), max_size=8), st.floats(0.01, 1))
def test_head_classes_are_the_fewest(counts: list[int], mass: float) -> None:
    head = head_classes(counts, mass).tolist()
    held, total = sum(counts[k] for k in head), sum(counts)
    assert held >= mass * total - 1e-9
    sizes = sorted(counts, reverse=True)
    assert [counts[k] for k in head] == sizes[: len(head)]
    if head:
        assert held - sizes[len(head) - 1] < mass * total + 1e-9
    assert not any(counts[k] == 0 for k in head)


@pytest.mark.row("P07")
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=9),
    st.data(),
)
def test_label_agreement(rows: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """Where which neighbours vote is beyond doubt; equally near ones may be taken in any order."""
    features, labels = [(x, y) for x, y, _ in rows], [label for *_, label in rows]
    k = data.draw(st.integers(1, 9))
    scores = label_agreement(torch.tensor(features, dtype=torch.float64), labels, k=k).tolist()
    sizes = Counter(labels)
    for i, (x, y) in enumerate(features):
        if (x, y) == (0, 0) or len(rows) == 1:
            assert scores[i] == pytest.approx(1 / len(sizes))
            continue
        # A row of zeros is as near as a right angle.
        cosines = {
            j: (x * u + y * v) / (math.hypot(x, y) * math.hypot(u, v) or 1)
            for j, (u, v) in enumerate(features)
            if j != i
        }
        order = sorted(cosines, key=lambda j: -cosines[j])
        near, rest = order[:k], order[k:]
        if not rest or cosines[near[-1]] > cosines[rest[0]] + 1e-9:
            votes = {label: sum(labels[j] == label for j in near) / size for label, size in sizes.items()}
            assert scores[i] == pytest.approx(votes[labels[i]] / sum(votes.values()))


@pytest.mark.row("P07")
@given(st.lists(st.floats(-100, 100), min_size=8, max_size=24), st.data())
def test_forecast_errors(values: list[float], data: st.DataObject) -> None:
    horizon, lags, period = (
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 3)),
        data.draw(st.integers(1, 3)),
    )
    anchored = data.draw(st.booleans())
    start = data.draw(st.integers(2, len(values) - horizon - 1))
    rows = range(start, data.draw(st.integers(start + 1, len(values) - horizon)))
    series = torch.tensor(values, dtype=torch.float64)
    weight = torch.randn(
        lags, horizon, generator=torch.Generator().manual_seed(len(values)), dtype=torch.float64
    )
    samples = ChannelSamples(series, lags=lags, anchored=anchored)
    bias = torch.ones(horizon, dtype=torch.float64)
    fit = RidgeFit(weight[: samples.num_features], bias)
    errors: dict[str, list[float]] = {"last": [], "seasonal": [], "fit": []}
    for t in rows:
        base = values[t] if anchored else 0.0
        window = [values[t - lags + 1 + i] - base for i in range(lags)][: samples.num_features]
        for h in range(horizon):
            right = values[t + 1 + h]
            errors["last"].append(values[t] - right)
            before = t + 1 + h
            while before > t:
                before -= period
            errors["seasonal"].append(values[before] - right)
            predicted = 1.0 + sum(value * weight[i, h].item() for i, value in enumerate(window))
            errors["fit"].append(predicted + base - right)
    found = {
        "last": naive_errors("last", series, rows, horizon, period),
        "seasonal": naive_errors("seasonal", series, rows, horizon, period),
        "fit": fit_errors(fit, samples, rows, horizon),
    }
    for name, each in errors.items():
        assert found[name].mse == pytest.approx(
            math.fsum(e * e for e in each) / len(each), rel=1e-9, abs=1e-9
        )
        assert found[name].mae == pytest.approx(math.fsum(map(abs, each)) / len(each), rel=1e-9, abs=1e-9)


@pytest.mark.row("P07")
@given(st.data())
def test_re_ranked_lists(data: st.DataObject) -> None:
    """Maximal marginal relevance, chosen one after the other by trying every candidate."""
    items, dim = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    number = st.integers(-4, 4).map(lambda n: n / 4)
    scores = torch.tensor([data.draw(st.lists(number, min_size=items, max_size=items))], dtype=torch.float64)
    vectors = torch.tensor(
        data.draw(st.lists(st.lists(number, min_size=dim, max_size=dim), min_size=items, max_size=items)),
        dtype=torch.float64,
    )
    n, alpha = data.draw(st.integers(1, items)), data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    chosen = mmr_rerank(scores, vectors, n, alpha)[1][0].tolist()
    length = vectors.norm(dim=1).clamp(min=1e-12)
    cosine = (vectors / length[:, None]) @ (vectors / length[:, None]).T
    assert len(set(chosen)) == n
    assert scores[0, chosen[0]] == scores.max()
    for step in range(1, n):
        value = {
            i: (1 - alpha) * scores[0, i].item() - alpha * max(cosine[i, j].item() for j in chosen[:step])
            for i in range(items)
            if i not in chosen[:step]
        }
        assert value[chosen[step]] >= max(value.values()) - 1e-12
    share = relative_scores(scores)[0]
    low, high = scores.min().item(), scores.max().item()
    expected = [(s - low) / (high - low) if high > low else 0.0 for s in scores[0].tolist()]
    assert share.tolist() == pytest.approx(expected)


@pytest.mark.row("P07")
@given(st.lists(st.none() | st.floats(0, 1), max_size=7))
def test_holm_steps_down(p_values: list[float | None]) -> None:
    """By its closure: the largest of the Bonferroni-corrected smallest p-values among those up to a rank."""
    known = sorted(p for p in p_values if p is not None)
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        if p is None:
            assert corrected is None
            continue
        steps = [
            min(1.0, (len(known) - rank) * smaller) for rank, smaller in enumerate(known) if smaller <= p
        ]
        # Equal p-values share the correction of the first of them, being the largest so far.
        assert corrected is not None
        assert max(min(1.0, (len(known) - known.index(p)) * p), *steps) == pytest.approx(corrected)


@pytest.mark.row("P07")
@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=2, max_size=7), st.data())
def test_statistics_of_embeddings(rows: list[list[int]], data: st.DataObject) -> None:
    count = len(rows)
    other = data.draw(
        st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), min_size=count, max_size=count)
    )
    assume(all(any(row) for row in (*rows, *other)))
    a, b = (np.array(x, dtype=float) / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, other))
    first, second = (torch.tensor(x, dtype=torch.float64) for x in (rows, other))
    pairs = list(itertools.combinations(range(count), 2))
    distance = [np.sum((a[i] - a[j]) ** 2) for i, j in pairs]
    assert alignment(first, second).item() == pytest.approx(np.mean(np.sum((a - b) ** 2, 1)), abs=1e-9)
    assert uniformity(first).item() == pytest.approx(
        math.log(np.mean(np.exp(-2 * np.array(distance)))), abs=1e-9
    )
    assert isotropy(first).item() == pytest.approx(1 - np.mean([a[i] @ a[j] for i, j in pairs]), abs=1e-9)
    shares = np.linalg.svd(np.array(rows, dtype=float), compute_uv=False)
    shares = shares / shares.sum()
    entropy = -sum(s * math.log(s) for s in shares if s > 1e-12)
    assert effective_rank(first).item() == pytest.approx(math.exp(entropy), rel=1e-5)
    cosine = a @ b.T
    clear = [
        all(
            abs(cosine[i, i] - cosine[i, j]) > 1e-9 or np.array_equal(b[i], b[j])
            for j in range(count)
            if j != i
        )
        for i in range(count)
    ]
    if all(clear):  # else rounding decides
        wins = [
            all(cosine[i, i] > cosine[i, j] + 1e-12 for j in range(count) if j != i) for i in range(count)
        ]
        assert top1_retrieval(first, second).item() == pytest.approx(np.mean(wins))


@pytest.mark.row("P07")
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=9), st.integers(0, 2**16))
def test_bootstrap_of_a_mean(values: list[int], seed: int) -> None:
    (found,) = bootstrap(np.array(values, dtype=float)[:, None], samples=200, seed=seed)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-12 <= found.low <= found.high <= max(values) + 1e-12
    assert 2 / 201 <= found.p_value <= 1
    if len(set(values)) == 1:
        assert found.low == found.high == pytest.approx(found.mean)
