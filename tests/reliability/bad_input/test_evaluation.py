"""B04: predictions and scores that must be refused, or that follow a stated policy (reliability.md, 4.5).

=====================================  ==========================================================================
case                                   where
=====================================  ==========================================================================
constant predictions                   here: ranked last; chance for classes
k > number of items                    here: refused where it is asked for, said where it is fixed
all items already seen                 here: the target counts, nothing else is left before it
class missing in a probe split         here: said by a graph; tests/timeseries/test_checks.py refuses it
ties in scores                         here: against the target, in every type of number
NaN scores, ranks that are none        here
=====================================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.errors import ConfigError, DivergedError
from nearfar.labels import classification_scores
from nearfar.recsys import (
    Interactions,
    MCLRecommender,
    Popularity,
    PopularityConfig,
    RecsysTask,
    leave_one_out,
    rank_of_target,
    ranking_metrics,
)
from nearfar.recsys.ranking import evaluate, seen_ahead
from nearfar.timeseries.classification.folds import held_out_accuracy, stratified_folds
from nearfar.timeseries.classification.knn_probe import knn_probe

# Counted apart: what is refused, and what is odd and follows a policy.
refused_case = pytest.mark.row("B04", bad_inputs=1)
odd_case = pytest.mark.row("B04", odd_inputs=1)


def walks(num_users: int = 6, num_items: int = 8) -> Interactions:
    rng = np.random.default_rng(0)
    return Interactions.from_sequences(
        {f"u{user}": [f"i{item}" for item in rng.permutation(num_items)[:6]] for user in range(num_users)}
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
@odd_case
def test_constant_scores_are_last(dtype: torch.dtype) -> None:
    targets = torch.tensor([0, 3, 6])
    assert rank_of_target(torch.zeros(3, 7, dtype=dtype), targets).tolist() == [6, 6, 6]


@odd_case
def test_a_model_of_constants_finds_nothing() -> None:
    split = leave_one_out(walks(num_items=30))
    found = evaluate(
        lambda histories: torch.zeros(len(histories), split.data.num_items), split, "test", cutoffs=[5]
    )
    assert set(found.values()) == {0.0}


@odd_case
def test_ties_count_against_the_target_one_by_one() -> None:
    """Against a loop: everything as good as the target is before it, but the target itself."""
    rng = np.random.default_rng(0)
    scores, targets = rng.integers(0, 3, size=(40, 9)).astype(float), rng.integers(0, 9, size=40)
    slow = [sum(row[j] >= row[t] for j in range(9) if j != t) for row, t in zip(scores, targets, strict=True)]
    assert rank_of_target(torch.from_numpy(scores), torch.from_numpy(targets)).tolist() == slow


@odd_case
def test_everything_seen_leaves_the_target_alone() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1]])
    targets, history = torch.tensor([3]), [np.array([1, 2, 3, 4])]
    rank = rank_of_target(scores, targets)
    assert (int(rank), int(rank - seen_ahead(scores, targets, history))) == (3, 0)


SCORES: list[tuple[str, Tensor, Tensor, str, str]] = [
    ("target-beyond", torch.ones(1, 3), torch.tensor([3]), "column 3 in row 0", "index less one"),
    ("target-negative", torch.ones(2, 3), torch.tensor([0, -1]), "column -1 in row 1", "index less one"),
    ("one-axis", torch.ones(3), torch.tensor([0, 1, 2]), r"\(3,\)", "one target a row"),
    ("rows", torch.ones(2, 3), torch.tensor([1]), r"\(1,\)", "one target a row"),
    ("no-items", torch.ones(1, 0), torch.tensor([0]), "column 0 in row 0", "index less one"),
    ("fraction", torch.ones(1, 3), torch.tensor([1.0]), "float32", "one target a row"),
]


@pytest.mark.parametrize(
    ("scores", "targets", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in SCORES]
)
@refused_case
def test_scores_and_targets_that_do_not_fit(
    scores: Tensor, targets: Tensor, value: str, fix: str, refuses: Any
) -> None:
    with refuses("targets: ", value, fix):
        rank_of_target(scores, targets)


@pytest.mark.parametrize("place", [0, 2])
@refused_case
def test_scores_that_are_not_numbers(place: int, refuses: Any) -> None:
    scores = torch.zeros(1, 3)
    scores[0, place] = torch.nan
    with refuses("scores", "NaN", "cannot be evaluated", DivergedError):
        rank_of_target(scores, torch.tensor([1]))


RANKS: list[tuple[str, Any, str, str]] = [
    ("none", np.array([], dtype=np.int64), "none", "one user at least"),
    ("negative", np.array([3, -1]), "-1", "rank_of_target"),
    ("nan", np.array([1.0, np.nan]), "float64", "rank_of_target"),
    ("fraction", np.array([1.5]), "float64", "rank_of_target"),
    ("truth", np.array([True]), "bool", "rank_of_target"),
]


@pytest.mark.parametrize(("ranks", "value", "fix"), [pytest.param(*case[1:], id=case[0]) for case in RANKS])
@refused_case
def test_ranks_that_are_none(ranks: Any, value: str, fix: str, refuses: Any) -> None:
    with refuses("^ranks", value, fix):
        ranking_metrics(ranks, [10])


@pytest.mark.parametrize("cutoff", [0, -1, 1.5])
@refused_case
def test_cutoffs_that_are_none(cutoff: Any, refuses: Any) -> None:
    with refuses("metric", f"hr_at_{cutoff}", "hr_at_k", ConfigError):
        ranking_metrics(np.array([1]), [cutoff])


@pytest.fixture(scope="module")
def fitted() -> MCLRecommender:
    sizes = {"dim": 8, "inner_dim": 8, "max_length": 5, "targets_per_batch": 64}
    return MCLRecommender(**{"epochs": 1, "device": "cpu", "num_threads": 1, **sizes}).fit(
        walks(num_items=30)
    )


@pytest.mark.parametrize("k", [0, -1, 1000, [5, 1000], [], "5", 1.5, [1.5], None, True], ids=str)
@refused_case
def test_lists_longer_than_the_catalogue_or_of_no_length(
    k: Any, refuses: Any, fitted: MCLRecommender
) -> None:
    with refuses("^k: ", "got", f"from 1 to {fitted.data.num_items}", ConfigError):
        fitted.evaluate(k=k)


@pytest.mark.parametrize(
    ("given", "value", "fix"),
    [
        pytest.param({"metrics": ["recall"]}, "'recall'", "choose from hr", id="metric"),
        pytest.param({"data": "tst"}, "'tst'", "'val', 'test' or events", id="part"),
    ],
)
@refused_case
def test_what_is_not_measured(
    given: dict[str, Any], value: str, fix: str, refuses: Any, fitted: MCLRecommender
) -> None:
    with refuses("^(metrics|data): ", value, fix, ConfigError):
        fitted.evaluate(**given)


@refused_case
def test_events_of_nobody_known(refuses: Any, fitted: MCLRecommender) -> None:
    with refuses("user", "no user", "nobody can be evaluated"):
        fitted.evaluate({"nobody": ["i1"]})


@odd_case
def test_fixed_lists_longer_than_the_catalogue_are_said(tmp_path: Path) -> None:
    path = tmp_path / "few.txt"
    path.write_text(
        "".join(
            f"u{u} {(u % 8) + 1} {(u + 1) % 8 + 1} {(u + 2) % 8 + 1} {(u + 3) % 8 + 1}\n" for u in range(8)
        )
    )
    task = RecsysTask(PopularityConfig(data=str(path)), Popularity)
    assert any(
        "there are 8 items: a list of 10 or 20 holds every target" in said for said in task.card.warnings
    )


@odd_case
def test_constant_classes_are_at_chance() -> None:
    y = torch.arange(12) % 3
    found = classification_scores(y, torch.zeros_like(y), torch.tensor([4, 4, 4]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["balanced_accuracy"] == pytest.approx(1 / 3)


@odd_case
def test_constant_embeddings_have_one_answer() -> None:
    """Every training row is as near; the smallest class of equals wins, whatever the order of rows."""
    y = torch.tensor([2, 1, 1, 2])
    for order in (slice(None), torch.tensor([3, 2, 1, 0])):
        assert knn_probe(torch.ones(4, 2), y[order], torch.ones(3, 2), k=4).tolist() == [1, 1, 1]


@refused_case
def test_a_class_of_one_is_never_held_out_and_none_at_all_is_refused(refuses: Any) -> None:
    y = np.array([0, 0, 1, 1, 2])
    assert stratified_folds(y, 2, 0)[4] == -1
    assert 0 <= held_out_accuracy(np.eye(5), y, knn_probe, seed=0) <= 1
    with refuses("^y: ", "no class has two", "more series"):
        stratified_folds(np.arange(5), 2, 0)
    with refuses("^folds: ", "1", "2 at least", ConfigError):
        stratified_folds(y, 1, 0)
