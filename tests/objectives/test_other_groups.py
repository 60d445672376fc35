"""Positives of the same label in another group: against matrices of weights, exact where a class cancels, refusals."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import OtherGroups, contrast
from nearfar.objectives import denominator as rules
from nearfar.objectives.conditions import TruthTable
from nearfar.objectives.denominator.combine import with_positives
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.positives import resolve
from nearfar.objectives.positives.labels import numbered

DOUBLE = torch.float64
BACKENDS: list[Backend] = ["dense", "tiled"]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 5)


def draw(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=DOUBLE).requires_grad_()


# Two classes of three and two groups, one of one group, rows without a class; -1: an item nobody knows.
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, -1, -1, 0])
GROUPS = torch.tensor([0, 0, 1, 1, 2, 0, 3, 4, 4, 5, 5, 9, 9, 1])
ITEMS = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 9, -1])
N = len(LABELS)


def weights(rows: list[int], keys: list[int], itself: bool) -> Tensor:
    """1 for every positive pair, one at a time."""
    answer = torch.zeros(len(rows), len(keys), dtype=DOUBLE)
    for i, row in enumerate(rows):
        for j, key in enumerate(keys):
            if itself and i == j:
                continue
            other = LABELS[row] == LABELS[key] >= 0 and GROUPS[row] != GROUPS[key]
            view = ITEMS[row] == ITEMS[key] >= 0
            answer[i, j] = bool(other or view)
    return answer


def sides(rows: list[int], keys: list[int] | None) -> OtherGroups:
    if keys is None:
        return OtherGroups(LABELS[rows], GROUPS[rows], ITEMS[rows])
    return OtherGroups(*((ids[rows], ids[keys]) for ids in (LABELS, GROUPS, ITEMS)))


ROWS = list(range(N))
KEYS = [3, 3, 0, 7, 8, 12, 10, 13, 5]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("keys", [None, KEYS, ROWS], ids=["itself", "keys", "as many keys"])
@pytest.mark.parametrize("without", [True, False], ids=["not of the group", "all"])
def test_they_are_the_pairs_one_by_one(
    backend: Backend, include: bool, keys: list[int] | None, without: bool
) -> None:
    matrix = weights(ROWS, ROWS if keys is None else keys, keys is None)
    q, k = draw(N, 4), None if keys is None else draw(len(keys), 4, seed=1)
    denominator = rules.NotSame(GROUPS, None if keys is None else GROUPS[keys]) if without else None
    options: dict[str, Any] = {
        "denominator": denominator,
        "include_positive": include,
        "symmetric": keys is not None,
        "temperature": 0.3,
    }
    wanted = contrast(q, k, positives=matrix, backend="dense", **options)
    got = contrast(q, k, positives=sides(ROWS, keys), backend=backend, **options)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)
    inputs = [q] if k is None else [q, k]
    for mine, theirs in zip(
        torch.autograd.grad(got, inputs), torch.autograd.grad(wanted, inputs), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-10)


def test_its_rule_is_the_pairs_one_by_one() -> None:
    for keys in (None, KEYS):
        own = ROWS if keys is None else keys
        to_rows, to_keys = resolve(sides(ROWS, keys), torch.Size(), N, len(own), itself=keys is None)
        whole = rules.Block(range(N), range(len(own)), torch.device("cpu"))
        turned = rules.Block(range(len(own)), range(N), torch.device("cpu"))
        assert torch.equal(torch.as_tensor(to_rows.rule.keep(whole)), weights(ROWS, own, keys is None) > 0)
        assert torch.equal(torch.as_tensor(to_keys.rule.keep(turned)), weights(ROWS, own, keys is None).T > 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_denominator_of_other_ids_takes_none_of_them(backend: Backend) -> None:
    """Not of the same class, though all positives but views are: they stay, as positives do."""
    q, matrix = draw(N, 4), weights(ROWS, ROWS, True)
    for ids in (LABELS, GROUPS.clone()):
        options: dict[str, Any] = {"denominator": rules.NotSame(ids), "reduction": "none"}
        got = contrast(q, positives=OtherGroups(LABELS, GROUPS, ITEMS), backend=backend, **options)
        wanted = contrast(q, positives=matrix, backend="dense", **options)
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


def test_the_fused_kernels_know_it_with_its_denominator() -> None:
    """Four comparisons, where rule and denominator are made of the same tensor; their table says what the rule says."""
    to_rows, _ = resolve(OtherGroups(LABELS, GROUPS, ITEMS), torch.Size(), N, N, itself=True)
    rule = with_positives(rules.NotSelf() & rules.NotSame(GROUPS), to_rows.rule, include=True, itself=True)
    table = TruthTable.of(rule)
    assert table is not None
    block = rules.Block(range(N), range(N), torch.device("cpu"))
    rows, keys = table.numbers(block)
    holds = rows[:, 0, :, None] == keys[:, 0, None, :]
    case = sum(condition.long() << i for i, condition in enumerate(holds))
    assert torch.equal((table.truth >> torch.as_tensor(case)) & 1 == 1, torch.as_tensor(rule.keep(block)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions_are_separate_problems(backend: Backend) -> None:
    rng = torch.Generator().manual_seed(4)
    labels = torch.randint(3, (2, 2, 9), generator=rng)
    groups = labels * 4 + torch.randint(2, (2, 2, 9), generator=rng)
    items = torch.arange(9).expand(2, 2, 9).clone()
    items[..., 8] = items[..., 7]
    labels[..., 8], groups[..., 8] = labels[..., 7], groups[..., 7]
    q = draw(2, 2, 9, 4)
    together = contrast(
        q,
        positives=OtherGroups(labels, groups, items),
        denominator=rules.NotSame(groups),
        reduction="none",
        backend=backend,
    )
    for at in ((0, 0), (0, 1), (1, 0), (1, 1)):
        alone = contrast(
            q[at],
            positives=OtherGroups(labels[at], groups[at], items[at]),
            denominator=rules.NotSame(groups[at]),
            reduction="none",
            backend="dense",
        )
        torch.testing.assert_close(together[at], alone)
    shared = OtherGroups(labels[0, 0], groups[0, 0], items[0, 0])
    torch.testing.assert_close(
        contrast(q, positives=shared, backend=backend),
        contrast(
            q, positives=OtherGroups(*(x.expand(2, 2, 9) for x in vars(shared).values())), backend=backend
        ),
    )


def test_a_small_rest_of_a_big_class_keeps_its_digits() -> None:
    """3000 nearly equal rows of one subclass, two of another: their sum is the difference of two large ones."""
    rng = torch.Generator().manual_seed(0)
    z = torch.ones(3002, 16) + 0.01 * torch.randn(3002, 16, generator=rng)
    z[-2:] = torch.randn(2, 16, generator=rng)
    groups = (torch.arange(3002) >= 3000).long()
    positives = OtherGroups(torch.zeros(3002, dtype=torch.int64), groups, torch.arange(3002))
    to_rows, _ = resolve(positives, torch.Size(), 3002, 3002, itself=True)
    x = torch.nn.functional.normalize(z, dim=1)[None]
    rough, weight = to_rows.logit(x, x)
    exact, _ = to_rows.logit(x.double(), x.double())
    assert torch.equal(weight[0, :3000], torch.full((3000,), 2.0))
    torch.testing.assert_close(rough.double(), exact, atol=3e-7, rtol=0)


def test_a_class_of_one_group_leaves_the_other_views_and_nothing_else() -> None:
    x = draw(1, 6, 3)
    ids = torch.zeros(6, dtype=torch.int64)
    to_rows, _ = resolve(OtherGroups(ids, ids, torch.arange(3).repeat(2)), torch.Size(), 6, 6, itself=True)
    logit, weight = to_rows.logit(x, x)
    torch.testing.assert_close(logit, (x * x.roll(3, 1)).sum(-1), atol=1e-15, rtol=1e-14)
    assert torch.equal(weight, torch.ones(1, 6, dtype=DOUBLE))


IDS = torch.arange(4)


@pytest.mark.parametrize(
    ("positives", "itself", "message"),
    [
        (OtherGroups(IDS, IDS.float(), IDS), True, "OtherGroups.groups: integers of shape (4,) expected, got torch"),
        (OtherGroups(IDS, IDS, IDS[:3]), True, "OtherGroups.items: integers of shape (4,) expected, got torch.int64"),
        (OtherGroups([0] * 4, IDS, IDS), True, "OtherGroups.labels: integers of shape (4,) expected, got [0"),  # type: ignore[arg-type]
        (OtherGroups((IDS, IDS), IDS, IDS), True, "OtherGroups.labels: one tensor expected, got two"),
        (OtherGroups((IDS, IDS[:3]), IDS, IDS), False, "OtherGroups.groups: a pair for rows and keys expected"),
        (OtherGroups(IDS, IDS % 2, IDS), True, "OtherGroups.groups within one of OtherGroups.labels each"),
        (OtherGroups(IDS // 4, IDS // 2, IDS % 2), True, "OtherGroups.items within one of OtherGroups.groups"),
        (
            OtherGroups((IDS, IDS[:3]), (IDS, IDS[:3]), (IDS, IDS[1:])),
            False,
            "OtherGroups.items within one of OtherGroups.groups each expected, got 1 in several",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(positives: OtherGroups, itself: bool, message: str) -> None:
    q, k = torch.ones(4, 2), None if itself else torch.ones(3, 2)
    with pytest.raises(ValueError, match=re.escape(message)):
        contrast(q, k, positives=positives)


def test_unknown_items_may_be_anywhere() -> None:
    """-1 says nothing, so it may stand in several groups; it makes no views either."""
    positives = OtherGroups(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]), torch.tensor([-1, -1, -1]))
    losses = contrast(torch.ones(3, 2), positives=positives, reduction="none")
    assert losses.tolist() == pytest.approx([0.6931, 0.6931, 0], abs=1e-4)


@pytest.mark.parametrize("shape", [(1,), (40,), (3, 25)])
def test_numbers_of_ids_without_looking(shape: tuple[int, ...]) -> None:
    """What a GPU computes is what ``unique`` says, with as many classes as there can be."""
    ids = torch.randint(-5, 12, shape, generator=torch.Generator().manual_seed(len(shape)))
    count, index = numbered(ids, may_wait=True)
    most, again = numbered(ids, may_wait=False)
    assert torch.equal(index, again)
    assert most == ids.numel() >= count
