"""P01 to P04: ``contrast`` and every objective known by name, on rows that no model should ever make.

Rows are equal, zero or ten thousand long; temperatures go from 0.02 to 10; whole rows and columns are masked. The
oracle is the definition that ``tests/objectives/test_contrast.py`` writes out, one number at a time in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from nearfar.objectives import KeyQueue, Pairs, Soft, contrast
from nearfar.objectives import denominator as rules
from nearfar.objectives.logsumexp import Backend, small_tiles
from nearfar.objectives.similarity import SIMILARITIES, Similarity
from nearfar.selectable import OBJECTIVES
from nearfar.testing import draw
from nearfar.testing.view_batches import CLASSES, built, fields, step

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

DOUBLE = torch.float64
BACKENDS: tuple[Backend, ...] = ("dense", "tiled")
VIEWS = ("first", "second", "more", "wrong", "target_first", "target_second")
# A property of 39 objectives is tried on 39 times as many examples; a fifth of the profile's for each will do.
EACH = settings(max_examples=settings().max_examples // 5)
sizes = st.integers(1, 9)
temperatures = st.floats(0.02, 10)


@st.composite
def rows(draw: st.DrawFn, count: int, dim: int, scales: tuple[float, ...] = (1.0, 100.0, 1e4)) -> Tensor:
    """``(count, dim)``: multiples of 0.01, some rows equal, some zero, of any of the scales."""
    numbers = draw(arrays(np.int64, (count, dim), elements=st.integers(-300, 300)))
    source = draw(st.none() | st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
    zero = draw(st.sets(st.integers(0, count - 1), max_size=count))
    x = torch.from_numpy(numbers).to(DOUBLE) / 100 * draw(st.sampled_from(scales))
    x = x if source is None else x[source]
    x[sorted(zero)] = 0
    return x


def unit(x: Tensor) -> Tensor:
    """Rows by their length; zero rows, which have no direction, stay zero and are like nothing."""
    length = x.square().sum(-1, keepdim=True)
    return torch.where(length > 0, x / torch.where(length > 0, length, 1.0).sqrt(), 0.0)


@dataclass(frozen=True)
class Problem:
    """One call of ``contrast``, and the matrices it stands for."""

    q: Tensor
    k: Tensor | None
    weights: Tensor
    allowed: Tensor
    similarity: Similarity
    temperature: float | Tensor
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> Tensor:
        """Of rows contrasted with themselves, those rows."""
        return self.q if self.k is None else self.k

    @property
    def largest(self) -> float:
        """No logit is larger: rounding is relative to it."""
        everything = [self.q, self.keys, self.options.get("extra_negatives", self.q)]
        length = max(x.square().sum(-1).max().item() for x in everything)
        most = {"cosine": 1.0, "dot": length, "neg_sqdist": 4 * length}[self.similarity]
        coldest = torch.as_tensor(self.temperature).min().item()
        return float(most / coldest + 10)

    def call(self, q: Tensor, k: Tensor | None, backend: Backend, **more: Any) -> Tensor:
        """The loss; rows without positive or denominator do not count."""
        options = {**self.options, **more}
        options |= {"similarity": self.similarity, "temperature": self.temperature, "on_empty": "zero"}
        loss: Tensor = contrast(q, k, backend=backend, **options)
        return loss


def positives(draw: st.DrawFn, count: int, num_keys: int, itself: bool) -> tuple[Any, Tensor]:
    """An argument ``positives``, and the weights ``(count, num_keys)`` it stands for."""
    i, j = torch.arange(count)[:, None], torch.arange(num_keys)[None]
    square = count == num_keys
    kinds = ["labels", "pairs"] + ["next"] * (square and count > 2) + ["views"] * (itself and count > 1)
    kinds += [] if itself else ["matrix", "soft"] + ["paired"] * square
    kind = draw(st.sampled_from(kinds))
    if kind == "paired":
        return "paired", torch.eye(count, dtype=DOUBLE)
    if kind == "views":
        period = draw(st.sampled_from([p for p in range(1, count) if count % p == 0]))
        return ("paired", period), (((i - j) % period == 0) & (i != j)).to(DOUBLE)
    if kind == "next":
        shift = draw(st.sampled_from([-2, -1, 1, 2]))
        return ("next", shift), (j == i + shift).to(DOUBLE)
    if kind == "labels":
        own = torch.tensor(draw(st.lists(st.integers(-1, 3), min_size=count, max_size=count)))
        if itself:
            return own, ((own[:, None] == own) & (own[:, None] >= 0) & (i != j)).to(DOUBLE)
        other = torch.tensor(draw(st.lists(st.integers(-1, 3), min_size=num_keys, max_size=num_keys)))
        return (own, other), ((own[:, None] == other) & (own[:, None] >= 0)).to(DOUBLE)
    if kind == "soft":
        u = torch.from_numpy(draw(arrays(np.int64, (count, 2), elements=st.integers(0, 5)))).to(DOUBLE)
        v = torch.from_numpy(draw(arrays(np.int64, (num_keys, 2), elements=st.integers(0, 5)))).to(DOUBLE)
        return Soft(0.5, 0.25, u, v), 0.5 + 0.25 * u @ v.T
    weights = torch.from_numpy(draw(arrays(np.int64, (count, num_keys), elements=st.integers(0, 3)))).to(
        DOUBLE
    )
    if itself:
        weights = weights * (i != j)
    if kind == "matrix":
        return weights, weights
    at = weights.nonzero()
    return Pairs(at[:, 0], at[:, 1], weights[at[:, 0], at[:, 1]]), weights


def denominators(draw: st.DrawFn, count: int, num_keys: int) -> tuple[rules.Rule | None, Tensor]:
    """An argument ``denominator``, and which keys ``(count, num_keys)`` it allows."""
    i, j = torch.arange(count)[:, None], torch.arange(num_keys)[None]
    kind = draw(st.sampled_from(["none", "mask", "not self", "band", "same", "other", "nothing", "two"]))
    mask = torch.from_numpy(draw(arrays(np.bool_, (count, num_keys))))
    ids = torch.tensor(
        draw(st.lists(st.integers(0, 2), min_size=count + num_keys, max_size=count + num_keys))
    )
    mine, theirs = (ids[:count], ids[count:]) if count != num_keys else (ids[:count], ids[:count])
    same = mine[:, None] == theirs
    if kind == "two":
        return rules.NotBand(1) & rules.Mask(mask), mask & ((i - j).abs() > 1)
    found: dict[str, tuple[rules.Rule | None, Tensor]] = {
        "none": (None, torch.ones(count, num_keys, dtype=torch.bool)),
        "mask": (rules.Mask(mask), mask),
        "not self": (rules.NotSelf(1), j != i + 1),
        "band": (rules.NotBand(2), (i - j).abs() > 2),
        "same": (rules.OnlySame(mine, theirs), same),
        "other": (rules.NotSame(mine, theirs), ~same),
        "nothing": (rules.Nothing(), torch.zeros(count, num_keys, dtype=torch.bool)),
    }
    return found[kind]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """N and M from 1 to 9, d from 1 to 5; any positives, denominators, similarity, temperatures, biases, weights."""
    count, dim = draw(sizes), draw(st.integers(1, 5))
    itself = draw(st.booleans())
    num_keys = count if itself else draw(sizes | st.just(count))
    q = draw(rows(count, dim))
    k = None if itself else draw(rows(num_keys, dim))
    chosen, weights = positives(draw, count, num_keys, itself)
    rule, allowed = denominators(draw, count, num_keys)
    include = draw(st.booleans())
    allowed = allowed | (weights > 0) if include else allowed & (weights == 0)
    if itself:
        rule = rule if rule is None else rules.NotSelf() & rule
        allowed = allowed & ~torch.eye(count, dtype=torch.bool)
    options: dict[str, Any] = {"positives": chosen, "denominator": rule, "include_positive": include}
    if draw(st.booleans()):
        bias = draw(st.lists(st.floats(-5, 5), min_size=num_keys, max_size=num_keys))
        options["key_log_weight"] = torch.tensor(bias, dtype=DOUBLE)
    if draw(st.booleans()):
        options["extra_negatives"] = draw(rows(draw(st.integers(1, 3)), dim))
    if draw(st.booleans()):
        weight = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
        options["row_weight"] = torch.tensor(weight, dtype=DOUBLE)
    each = st.lists(temperatures, min_size=count, max_size=count).map(lambda t: torch.tensor(t, dtype=DOUBLE))
    similarity: Similarity = draw(st.sampled_from(SIMILARITIES))
    return Problem(q, k, weights, allowed, similarity, draw(temperatures | each), options)


def expected(problem: Problem, q: Tensor, k: Tensor | None, oracle: Any) -> list[Tensor | None]:
    """What every row loses by definition, ``None`` where it does not count."""
    cosine = problem.similarity == "cosine"
    others = problem.options.get("extra_negatives")
    prepared = [x if x is None or not cosine else unit(x) for x in (q, q if k is None else k, others)]
    losses: list[Tensor | None] = oracle.definition(
        prepared[0],
        prepared[1],
        problem.weights,
        problem.allowed,
        temperature=problem.temperature,
        similarity="dot" if cosine else problem.similarity,
        others=prepared[2],
        log_weight=problem.options.get("key_log_weight"),
    )
    return losses


def directed(problem: Problem, x: Tensor) -> Tensor:
    """Rows whose gradient means something: that of the cosine of a zero row is rounding, times 1e12."""
    return (x != 0).any(-1) | (problem.similarity != "cosine")


@pytest.mark.row("P01")
@given(problems(), st.integers(1, 4))
def test_contrast_is_its_definition(other_tests: Any, problem: Problem, edge: int) -> None:
    oracle = other_tests("objectives/test_contrast.py")
    q = problem.q.clone().requires_grad_()
    k = None if problem.k is None else problem.k.clone().requires_grad_()
    losses = expected(problem, q, k, oracle)
    inputs = [x for x in (q, k) if x is not None]
    slack = 1e-9 + 1e-13 * problem.largest
    steepest = 10 * problem.largest / max(1e-2, min(x.norm(dim=-1).max().item() for x in inputs)) + 100
    nothing = all(loss is None for loss in losses)
    reference = q.sum() * 0 if nothing else oracle.mean(losses, problem.options.get("row_weight"))
    weight = problem.options.get("row_weight", torch.ones(len(q))).tolist()
    rows_lose = [0.0 if loss is None else w * loss.item() for w, loss in zip(weight, losses, strict=True)]
    wanted = torch.autograd.grad(reference, inputs, allow_unused=True)
    for backend, size in (("dense", None), ("tiled", None), ("tiled", edge)):
        with small_tiles(size):
            each = problem.call(q, k, backend, reduction="none")  # type: ignore[arg-type]
            loss = problem.call(q, k, backend)  # type: ignore[arg-type]
            got = torch.autograd.grad(loss, inputs, allow_unused=True)
        assert each.tolist() == pytest.approx(rows_lose, abs=4 * slack)
        assert loss.item() == pytest.approx(reference.item(), abs=slack)
        for x, mine, yours in zip(inputs, got, wanted, strict=True):
            mine, yours = (torch.zeros_like(x) if g is None else g for g in (mine, yours))
            assert mine.isfinite().all()
            counted = directed(problem, x)
            torch.testing.assert_close(mine[counted], yours[counted], atol=slack * steepest, rtol=1e-7)


@pytest.mark.row("P01")
@given(problems(), st.booleans())
def test_contrast_in_single_precision_is_finite(problem: Problem, tiled: bool) -> None:
    q = problem.q.float().requires_grad_()
    k = None if problem.k is None else problem.k.float().requires_grad_()
    options = {
        name: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in problem.options.items()
    }
    single = Problem(q, k, problem.weights, problem.allowed, problem.similarity, problem.temperature, options)
    loss = single.call(q, k, BACKENDS[tiled])
    loss.backward()
    assert loss.isfinite()
    assert q.grad is None or q.grad.isfinite().all()
    assert k is None or k.grad is None or k.grad.isfinite().all()


# A negative there is none of in a batch of one: these say so.
TWO_ROWS = {
    "adaptive_barlow", "align_uniform", "amcl", "barlow_twins", "beclr", "byol", "cacr", "dcl", "dclw", "debcse",
    "debiased", "distilled", "hard", "mined", "paired_logistic", "sepclr", "simctg", "simsiam", "vicreg", "whitened",
}  # fmt: skip
# Widths that divide into the groups and halves some are made of.
WIDTH = 4


@st.composite
def batches(
    draw: st.DrawFn, smallest: int = 1, scales: tuple[float, ...] = (1e-6, 1.0, 1e4)
) -> dict[str, Tensor]:
    """Everything a batch can hold, in float64."""
    count = draw(st.integers(smallest, 9))
    given_fields = fields(count, WIDTH)
    for name in VIEWS:
        shape = given_fields[name].shape
        given_fields[name] = draw(rows(math.prod(shape[:-1]), WIDTH, scales)).reshape(shape)
    given_fields["side"] = draw(rows(count, 4, scales))
    labels = st.lists(st.integers(0, CLASSES - 1), min_size=count, max_size=count)
    given_fields["labels"] = torch.tensor(draw(labels))
    return given_fields


def value(name: str, batch: Mapping[str, Tensor], steps: int = 1) -> list[float]:
    """Losses of some steps on one batch: memories are full after the first."""
    objective = built(name, len(batch["first"]), WIDTH)
    return [step(objective, batch, seed)[0].item() for seed in range(steps)]


@pytest.mark.row("P01")
@pytest.mark.parametrize("name", OBJECTIVES)
@EACH
@given(batch=batches(), single=st.booleans())
def test_objectives_are_finite(name: str, batch: dict[str, Tensor], single: bool) -> None:
    dtype = torch.float32 if single else DOUBLE
    batch = {key: x.to(dtype) if x.is_floating_point() else x for key, x in batch.items()}
    count = len(batch["first"])
    objective = built(name, count, WIDTH, dtype)
    if count == 1 and name in TWO_ROWS:
        with pytest.raises(ValueError, match="N at least 2 expected|at least one row with a positive"):
            step(objective, batch, 0)
        return
    for seed in range(2):
        loss, gradients = step(objective, batch, seed)
        assert loss.isfinite(), "loss"
        for key, gradient in gradients.items():
            assert gradient is None or gradient.isfinite().all(), key
        for key, parameter in objective.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), key


# Rows of one draw or another, by their places.
BY_PLACE = {
    "paired_logistic": "the negative of a row is the row after it",
    "symile": "the other views are shuffled by a draw of places",
    "debcse": "pairs are drawn, a number for every place",
}
# First and second view do not play the same part.
ONE_SIDED = {
    "whitened": "positives are whitened second views",
    "mined": "the first view looks for negatives in the second",
    "adversarial": "the made negative is one of the second view",
    "paired_logistic": "the negative is taken from the second view",
    "moco": "keys are a slow copy's second views",
    "distilled": "the first view ranks the second",
    "relational": "distributions of the first view over the second",
    "feature_transfer": "InfoNCE of one direction",
    "model_contrast": "the first view alone leaves the model's past",
    "coact": "the slow copy's second view is the third one",
    "hydra": "InfoNCE of one direction",
    "symile": "the first view is compared with products of the others",
    "one_to_k": "the first view is the one, the second among the K",
    "cwcl": "soft targets in one direction, hard ones in the other",
    "debcse": "the first view draws from the second",
    "counterfactual": "the first view is told from the spoilt ones",
    "negclip": "spoilt versions are keys of the first view",
}
# More than lengths and angles of rows counts.
COORDINATES = {
    "amcl": "heads are layers of a network",
    "whitened": "groups of features are whitened together",
    "overuse": "features are counted one by one",
    "barlow_twins": "correlations of features",
    "adaptive_barlow": "correlations of features",
    "vicreg": "variances of features",
    "simsiam": "a predictor's layers",
    "byol": "a predictor's layers",
    "beclr": "a predictor's layers, and prototypes with a place",
    "sepclr": "the first half of the features is the common part",
    "hydra": "classes switch features on and off",
    "symile": "products of single features",
}
Change = Callable[[Mapping[str, Tensor], np.random.Generator], dict[str, Tensor]]


def permuted(batch: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """The rows in another order."""
    order = torch.from_numpy(rng.permutation(len(batch["first"])))
    return {name: x[:, order] if name == "more" else x[order] for name, x in batch.items()}


def swapped(batch: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """The first view as the second."""
    other = {
        "first": "second",
        "second": "first",
        "target_first": "target_second",
        "target_second": "target_first",
    }
    return {name: batch[other.get(name, name)] for name in batch}


def rotated(batch: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """All representations turned alike."""
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0])
    return {name: x @ turn if name in VIEWS else x for name, x in batch.items()}


CHANGES: dict[str, tuple[Change, Mapping[str, str]]] = {
    "order": (permuted, BY_PLACE),
    "views": (swapped, ONE_SIDED),
    "rotation": (rotated, COORDINATES),
}


def without_ties(seed: int, count: int) -> dict[str, Tensor]:
    """Rows in general position: where two keys are equally near, either may be taken."""
    batch = fields(count, WIDTH)
    for place, name in enumerate((*VIEWS, "side", "surface")):
        batch[name] = draw(*batch[name].shape, seed=10 * seed + place)
    batch["labels"] = torch.arange(count) % CLASSES
    return batch


@pytest.mark.row("P02")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", OBJECTIVES)
@EACH
@given(seed=st.integers(0, 2**16), count=st.integers(2, 9))
def test_objectives_do_not_see(name: str, change: str, seed: int, count: int) -> None:
    """The order of rows, which view is which, a rotation of the space; two steps, so that memories count."""
    apply, exempt = CHANGES[change]
    batch = without_ties(seed, count)
    changed = apply(batch, np.random.default_rng(seed))
    if name not in exempt:
        assert value(name, changed, 2) == pytest.approx(value(name, batch, 2), rel=1e-7, abs=1e-9)


@pytest.mark.row("P02")
@pytest.mark.parametrize(
    ("name", "change"), [(name, key) for key, (_, exempt) in CHANGES.items() for name in exempt]
)
def test_exemptions_are_needed(name: str, change: str) -> None:
    batch, apply = without_ties(1, 6), CHANGES[change][0]
    assert value(name, apply(batch, np.random.default_rng(1))) != pytest.approx(value(name, batch), rel=1e-7)


@pytest.mark.row("P02")
@given(problems(), st.permutations(range(9)), st.permutations(range(9)))
def test_contrast_permutes_with_its_rows_and_keys(
    problem: Problem, first: list[int], second: list[int]
) -> None:
    """Of what is given by place only weights and masks can be permuted: both are made explicit."""
    q, keys = problem.q, problem.keys
    by_row = torch.tensor([place for place in first if place < len(q)])
    by_key = torch.tensor([place for place in second if place < len(keys)])
    tau = problem.temperature

    def each(rows: Tensor, columns: Tensor, backend: Backend) -> Tensor:
        return contrast(
            q[rows],
            keys[columns],
            positives=problem.weights[rows][:, columns],
            denominator=rules.Mask(problem.allowed[rows][:, columns]),
            include_positive=False,
            similarity=problem.similarity,
            temperature=tau[rows] if isinstance(tau, Tensor) else tau,
            on_empty="zero",
            reduction="none",
            backend=backend,
        )

    everything = torch.arange(len(q)), torch.arange(len(keys))
    slack = 1e-9 + 1e-13 * problem.largest
    for backend in BACKENDS:
        moved, kept = each(by_row, by_key, backend), each(*everything, backend)
        torch.testing.assert_close(moved, kept[by_row], atol=slack, rtol=1e-9)


@pytest.mark.row("P02")
@given(st.data(), sizes, st.integers(1, 5), st.sampled_from(SIMILARITIES), temperatures)
def test_contrast_does_not_see_a_rotation(
    data: st.DataObject, count: int, dim: int, similarity: Similarity, temperature: float
) -> None:
    q, k = data.draw(rows(count, dim)), data.draw(rows(count, dim))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(dim, dim)))[0])
    problem = Problem(q, k, torch.eye(count), torch.eye(count), similarity, temperature)
    for backend in BACKENDS:
        kept = problem.call(q, k, backend, reduction="none", symmetric=True)
        turned = problem.call(q @ turn, k @ turn, backend, reduction="none", symmetric=True)
        torch.testing.assert_close(turned, kept, atol=1e-9 + 1e-13 * problem.largest, rtol=1e-9)
        swapped_views = problem.call(k, q, backend, symmetric=True)
        kept_views = problem.call(q, k, backend, symmetric=True)
        torch.testing.assert_close(swapped_views, kept_views, atol=1e-9 + 1e-13 * problem.largest, rtol=1e-9)


@pytest.mark.row("P02")
@given(problems(), st.data())
def test_a_negative_more_never_lowers_a_loss(problem: Problem, data: st.DataObject) -> None:
    dim = problem.q.shape[1]
    more = data.draw(rows(data.draw(st.integers(1, 3)), dim))
    before = problem.options.get("extra_negatives")
    queue = KeyQueue(4, dim).double()
    queue.enqueue(more)
    longest = max(problem.largest, more.square().sum(-1).max().item() * problem.largest)
    slack = 1e-9 + 1e-13 * longest
    counted = (problem.weights.sum(1) > 0) & (problem.allowed.any(1) | (before is not None))
    for backend in BACKENDS:
        kept = problem.call(problem.q, problem.k, backend, reduction="none")
        together = more if before is None else torch.cat([before, more])
        extended = problem.call(problem.q, problem.k, backend, reduction="none", extra_negatives=together)
        assert bool(((extended - kept)[counted] >= -slack).all())
        if problem.options["denominator"] is not None:  # with none, a queue is the whole denominator
            queued = problem.call(problem.q, problem.k, backend, reduction="none", queue=queue)
            assert bool(((queued - kept)[counted] >= -slack).all())


@pytest.mark.row("P02")
@pytest.mark.parametrize("name", ["counterfactual", "negclip"])
@given(batch=batches(), copies=st.integers(1, 3))
def test_a_spoilt_version_more_never_lowers_a_loss(name: str, batch: dict[str, Tensor], copies: int) -> None:
    more = {**batch, "wrong": torch.cat([batch["wrong"], *[batch["first"][:, None]] * copies], 1)}
    assert value(name, more)[0] >= value(name, batch)[0] - 1e-9


@pytest.mark.row("P03")
@given(problems(), st.integers(0, 3))
def test_equal_keys_leave_the_number_of_candidates(problem: Problem, extra: int) -> None:
    """Whatever the similarity, temperature and mask: log of how many keys the denominator has."""
    q, keys = problem.q, problem.keys
    one = keys[:1]
    options: dict[str, Any] = {"extra_negatives": one.expand(extra, -1)} if extra else {}
    counted = problem.allowed | (problem.weights > 0)
    candidates = counted.sum(1) + extra
    expected = torch.where(problem.weights.sum(1) > 0, candidates.to(DOUBLE).log(), 0.0)
    for backend in BACKENDS:
        each = contrast(
            q,
            one.expand_as(keys).clone(),
            positives=problem.weights,
            denominator=rules.Mask(problem.allowed),
            similarity=problem.similarity,
            temperature=problem.temperature,
            on_empty="zero",
            reduction="none",
            backend=backend,
            **options,
        )
        torch.testing.assert_close(each, expected, atol=1e-6 + 1e-13 * problem.largest, rtol=0)


@pytest.mark.row("P03")
@given(st.integers(1, 9), st.integers(0, 3), st.sampled_from(["cosine", "dot", "neg_sqdist"]), st.booleans())
def test_separated_and_cold_is_no_loss(
    count: int, more: int, similarity: Similarity, symmetric: bool
) -> None:
    x = torch.eye(count + more, dtype=DOUBLE)[:count]
    for backend in BACKENDS:
        loss = contrast(x, x, similarity=similarity, temperature=0.01, symmetric=symmetric, backend=backend)
        assert loss.item() == pytest.approx(0, abs=1e-12)


# n rows, all the same, by name: what is left is how many candidates there are (c: spoilt versions, 2 a row).
EQUAL: dict[str, Callable[[int], float]] = {
    "infonce": lambda n: math.log(n),
    "ntxent": lambda n: math.log(2 * n - 1),
    "dcl": lambda n: math.log(2 * n - 2),
    "dclw": lambda n: math.log(2 * n - 2),
    "debiased": lambda n: math.log(2 * n - 1),
    "hard": lambda n: math.log(2 * n - 1),
    "cacr": lambda n: 0.0,
    "align_uniform": lambda n: 0.0,
    "whitened": lambda n: math.log(n),
    "mined": lambda n: math.log(1 + min(4, n - 1)),
    "simctg": lambda n: 0.5,
    "paired_logistic": lambda n: math.log(2),
    "moco": lambda n: math.log(n),
    "crd": lambda n: math.log(n),
    "relational": lambda n: math.log(n),
    "feature_transfer": lambda n: math.log(n),
    "model_contrast": lambda n: math.log(n) + math.log(2),
    "supcon": lambda n: math.log(2 * n - 1),
    "coact": lambda n: math.log(3 * n - 1),
    "hydra": lambda n: math.log(n),
    "symile": lambda n: math.log(n),
    "one_to_k": lambda n: (math.log(3 * n) + math.log(n)) / 2,
    "cwcl": lambda n: math.log(n),
    "multistage": lambda n: math.log(2 * n - 1),
    "counterfactual": lambda n: math.log(n) + math.log(3),
    "negclip": lambda n: (math.log(3 * n) + math.log(n)) / 2,
}


@pytest.mark.row("P03")
@pytest.mark.parametrize("name", EQUAL)
@EACH
@given(row=rows(1, WIDTH, (1.0, 1e4)), count=st.integers(2, 9))
def test_equal_rows_leave_the_number_of_candidates(name: str, row: Tensor, count: int) -> None:
    # Zero is like nothing, not even like zero, but at no distance from it: no closed form of distances on the sphere.
    assume(name != "align_uniform" or bool(row.any()))
    batch = {
        name: row.expand_as(x).clone() if name in VIEWS else x for name, x in fields(count, WIDTH).items()
    }
    batch["labels"] = torch.arange(count) % CLASSES
    assert value(name, batch)[0] == pytest.approx(EQUAL[name](count), abs=1e-6)


@pytest.mark.row("P04")
@given(problems())
def test_tiles_of_every_size_are_the_same_contrast(problem: Problem) -> None:
    """Edges from one row to all of them in float32, against all logits at once in float64, gradients included."""
    wanted = _with_gradients(problem, DOUBLE, None, "dense")
    everything = max(len(problem.q), len(problem.keys))
    slack = 1e-6 * problem.largest
    steepest = (
        10 * problem.largest / max(1e-2, min(x.norm(dim=-1).max().item() for x in (problem.q, problem.keys)))
    )
    for edge in range(1, everything + 1):
        exact = _with_gradients(problem, DOUBLE, edge, "tiled")
        single = _with_gradients(problem, torch.float32, edge, "tiled")
        for mine, rough, yours in zip(exact, single, wanted, strict=True):
            torch.testing.assert_close(mine, yours, atol=1e-9 + 1e-13 * problem.largest * steepest, rtol=1e-9)
            assert rough.isfinite().all()
        # Loss and values of rows; a logit of a million leaves float32 nothing to compare gradients by.
        torch.testing.assert_close(single[0], wanted[0], atol=4 * slack, rtol=1e-6)
        if problem.largest < 100 and problem.similarity == "cosine":
            for rough, yours in zip(single[1:], wanted[1:], strict=True):
                torch.testing.assert_close(rough, yours, atol=1e-4 * steepest, rtol=1e-4)


def _with_gradients(problem: Problem, dtype: torch.dtype, edge: int | None, backend: Backend) -> list[Tensor]:
    """Loss and gradients in float64, however they were computed."""
    q = problem.q.to(dtype).requires_grad_()
    k = None if problem.k is None else problem.k.to(dtype).requires_grad_()
    options = {
        name: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in problem.options.items()
    }
    same = Problem(q, k, problem.weights, problem.allowed, problem.similarity, problem.temperature, options)
    with small_tiles(edge):
        loss = same.call(q, k, backend)
        inputs = [x for x in (q, k) if x is not None]
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True) if loss.requires_grad else [None] * 2
    found = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=False)]
    found = [g * directed(problem, x)[:, None] for x, g in zip(inputs, found, strict=True)]
    return [loss.detach().double(), *(g.double() for g in found)]


# Where rounding decides between two sides of a kink, which key is the nearest, or how far equal rows are apart in units
# of how far apart all rows are: these have the same value and gradient in any tiles for rows in general position only.
NOT_WHERE_ROWS_ARE_EQUAL = {"simctg", "mined", "distilled", "feature_transfer"}


@pytest.mark.row("P04")
@pytest.mark.parametrize("name", OBJECTIVES)
@EACH
@given(
    wild=batches(2, (1.0, 100.0)),
    seed=st.integers(0, 2**16),
    edge=st.integers(1, 18),
    numbers=st.sampled_from([1, 30, 200]),
)
def test_objectives_do_not_depend_on_their_tiles(
    name: str, wild: dict[str, Tensor], seed: int, edge: int, numbers: int
) -> None:
    """Tiles of pairs and tiles of rows, each smaller than the batch; two steps, gradients included."""
    count = len(wild["first"])
    batch = without_ties(seed, count) if name in NOT_WHERE_ROWS_ARE_EQUAL else wild
    whole, tiled = built(name, count, WIDTH), built(name, count, WIDTH)
    wanted = [step(whole, batch, seed) for seed in range(2)]
    with (
        small_tiles(edge),
        mock.patch("nearfar.objectives.row_tiles.NUMBERS", numbers),
        mock.patch("nearfar.objectives.mmd.CACHED", numbers),
    ):
        got = [step(tiled, batch, seed) for seed in range(2)]
    for (mine, gradients), (yours, others) in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, yours, atol=1e-9, rtol=1e-9)
        for key, gradient in gradients.items():
            other = others[key]
            if gradient is not None and other is not None:
                # The gradient of a zero row is rounding, times 1e12.
                counted = (batch[key] != 0).any(-1)
                torch.testing.assert_close(gradient[counted], other[counted], atol=1e-8, rtol=1e-6)
