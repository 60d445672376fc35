"""``contrast`` against its definition written with explicit matrices, closed forms and its own derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.objectives import Pairs, Soft, contrast
from nearfar.objectives import denominator as rules
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.similarity import Similarity
from nearfar.testing import draw

DOUBLE = torch.float64
BACKENDS: list[Backend] = ["dense", "tiled"]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 3 rows, so that a dozen rows have every kind of tile."""
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 3)


def definition(
    q: Tensor,
    k: Tensor,
    weights: Tensor,
    allowed: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    similarity: str = "cosine",
    others: Tensor | None = None,
    log_weight: Tensor | None = None,
) -> list[Tensor | None]:
    """Loss of every row, ``None`` for rows that do not count; one number at a time."""

    def compare(x: Tensor, y: Tensor) -> Tensor:
        if similarity == "neg_sqdist":
            return -((x - y) ** 2).sum()
        dot = (x * y).sum()
        return dot if similarity == "dot" else dot / (x.square().sum() * y.square().sum()).sqrt()

    losses: list[Tensor | None] = []
    for i, row in enumerate(q):
        tau = temperature[i] if isinstance(temperature, Tensor) and temperature.dim() else temperature
        logits = [compare(row, key) / tau for key in k]
        if log_weight is not None:
            logits = [s + b for s, b in zip(logits, log_weight, strict=True)]
        terms = [logits[j] for j in range(len(k)) if allowed[i, j]]
        if others is not None:
            terms += [compare(row, key) / tau for key in (others if others.dim() == 2 else others[i])]
        total = weights[i].sum()
        if not terms or not total:
            losses.append(None)
            continue
        numerator = sum(weights[i, j] * logits[j] for j in range(len(k)) if weights[i, j])
        losses.append(torch.logsumexp(torch.stack(terms), 0) - numerator / total)
    return losses


def mean(losses: list[Tensor | None], weight: Tensor | None = None) -> Tensor:
    pairs = [
        (loss, 1.0 if weight is None else weight[i]) for i, loss in enumerate(losses) if loss is not None
    ]
    return sum(loss * w for loss, w in pairs) / sum(w for _, w in pairs)  # type: ignore[return-value]


def matrix(rows: int, keys: int, of: Callable[[int, int], Any]) -> Tensor:
    return torch.tensor([[float(of(i, j)) for j in range(keys)] for i in range(rows)], dtype=DOUBLE)


LABELS = [0, 1, 2, 0, -1, 1, 0, 3, 1, 5, 2, 0]  # -1: none; 3 and 5: alone
KEY_LABELS = [1, 0, 7, 0, 2, -1, 1, 0]
N, M = len(LABELS), len(KEY_LABELS)

# name: rows compared with themselves?, the argument, the weights it stands for
POSITIVES: dict[str, tuple[bool, Any, Tensor]] = {
    "paired": (False, "paired", matrix(N, N, lambda i, j: i == j)),
    "stacked": (True, ("paired", N // 2), matrix(N, N, lambda i, j: i != j and (i - j) % (N // 2) == 0)),
    "four views": (True, ("paired", N // 4), matrix(N, N, lambda i, j: i != j and (i - j) % (N // 4) == 0)),
    "next": (True, ("next", 2), matrix(N, N, lambda i, j: j == i + 2)),
    "previous": (False, ("next", -1), matrix(N, N, lambda i, j: j == i - 1)),
    "labels": (
        True,
        torch.tensor(LABELS),
        matrix(N, N, lambda i, j: i != j and LABELS[i] == LABELS[j] >= 0),
    ),
    "two labels": (
        False,
        (torch.tensor(LABELS), torch.tensor(KEY_LABELS)),
        matrix(N, M, lambda i, j: LABELS[i] == KEY_LABELS[j] >= 0),
    ),
    "pairs": (
        False,
        Pairs(torch.tensor([0, 0, 3, 11, 3]), torch.tensor([1, 7, 2, 0, 2]), torch.tensor([0.5, 2, 1, 3, 1])),
        matrix(N, M, lambda i, j: {(0, 1): 0.5, (0, 7): 2, (3, 2): 2, (11, 0): 3}.get((i, j), 0)),
    ),
    "own pairs": (
        True,
        Pairs(torch.tensor([4, 5]), torch.tensor([5, 9])),
        matrix(N, N, lambda i, j: (i, j) in {(4, 5), (5, 9)}),
    ),
    "matrix": (False, (w := draw(N, M, seed=5).relu() * (torch.arange(N) != 2)[:, None]), w),
    "soft": (
        False,
        Soft(
            0.5,
            0.25,
            (u := torch.rand(N, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)),
            u[:M],
        ),
        0.5 + 0.25 * u @ u[:M].T,
    ),
    "own soft": (
        True,
        Soft(0.5, 0.25, u, u),
        (0.5 + 0.25 * u @ u.T) * (1 - torch.eye(N, dtype=DOUBLE)),
    ),
}
IDS = torch.tensor([0, 3, 1, 0, 2, 2, 1, 3, 0, 1, 1, 2])
RULES: dict[str, tuple[Callable[[int, int], rules.Rule], Callable[[int, int], bool]]] = {
    "All": (lambda n, m: rules.All(), lambda i, j: True),
    "NotSelf": (lambda n, m: rules.NotSelf(), lambda i, j: i != j),
    "NotSelf(2)": (lambda n, m: rules.NotSelf(2), lambda i, j: j != i + 2),
    "Nothing": (lambda n, m: rules.Nothing(), lambda i, j: False),
    "NotSame": (lambda n, m: rules.NotSame(IDS[:n], IDS[:m]), lambda i, j: bool(IDS[i] != IDS[j])),
    "OnlySame": (lambda n, m: rules.OnlySame(IDS[:n], IDS[:m]), lambda i, j: bool(IDS[i] == IDS[j])),
    "NotBand": (lambda n, m: rules.NotBand(2), lambda i, j: abs(i - j) > 2),
    "Mask": (
        lambda n, m: rules.Mask(matrix(n, m, lambda i, j: (i * 5 + j) % 3).bool()),
        lambda i, j: bool((i * 5 + j) % 3),
    ),
    "Callable": (lambda n, m: rules.Callable(lambda i, j: i + j > 6), lambda i, j: i + j > 6),
    "both": (lambda n, m: rules.NotSelf() & rules.NotBand(1) & rules.OnlySame(IDS[:n], IDS[:m]),
             lambda i, j: abs(i - j) > 1 and bool(IDS[i] == IDS[j])),
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", POSITIVES)
def test_positives_and_denominators_are_as_defined(
    name: str, rule: str, include: bool, backend: Backend
) -> None:
    itself, positives, weights = POSITIVES[name]
    rows, keys = weights.shape
    build, answer = RULES[rule]
    allowed = matrix(rows, keys, answer).bool()
    allowed = allowed | (weights > 0) if include else allowed & (weights == 0)
    if itself and rule not in ("NotSelf", "both"):
        build = lambda n, m, build=build: rules.NotSelf() & build(n, m)  # type: ignore[misc] # noqa: E731
    if itself:
        allowed &= ~torch.eye(rows, dtype=torch.bool)
    q, k = draw(rows, 4).requires_grad_(), draw(keys, 4, seed=1).requires_grad_()
    expected = definition(q, q if itself else k, weights, allowed)
    arguments: dict[str, Any] = {
        "positives": positives,
        "denominator": build(rows, keys),
        "include_positive": include,
        "backend": backend,
    }
    if all(loss is None for loss in expected):
        with pytest.raises(ValueError, match="denominator: at least one row"):
            contrast(q, None if itself else k, **arguments)
        zero = contrast(q, None if itself else k, on_empty="zero", **arguments)
        assert zero.item() == 0
        zero.backward()
        assert q.grad is not None
        assert not q.grad.any()
        return
    each = contrast(q, None if itself else k, reduction="none", **arguments)
    assert each.tolist() == pytest.approx([0 if x is None else x.item() for x in expected], abs=1e-9)
    loss, reference = contrast(q, None if itself else k, **arguments), mean(expected)
    assert loss.item() == pytest.approx(reference.item(), abs=1e-9)
    inputs = [q] if itself else [q, k]
    for got, want in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(reference, inputs), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("similarity", ["cosine", "dot", "neg_sqdist"])
@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("per_row", [True, False])
def test_similarities_scales_and_biases(
    similarity: Similarity, itself: bool, per_row: bool, backend: Backend
) -> None:
    q, k = draw(N, 4).requires_grad_(), draw(N, 4, seed=1).requires_grad_()
    temperature = (
        draw(N, seed=2).abs() + 0.2 if per_row else torch.tensor(0.3, dtype=DOUBLE)
    ).requires_grad_()
    log_weight = draw(N, seed=3).requires_grad_()
    row_weight = draw(N, seed=4).abs()
    name = "stacked" if itself else "paired"
    _, positives, weights = POSITIVES[name]
    allowed = ~torch.eye(N, dtype=torch.bool) if itself else torch.ones(N, N, dtype=torch.bool)
    for bias in (None, log_weight):
        losses = definition(
            q,
            q if itself else k,
            weights,
            allowed,
            temperature=temperature,
            similarity=similarity,
            log_weight=bias,
        )
        expected = mean(losses, row_weight)
        loss = contrast(
            q,
            None if itself else k,
            positives=positives,
            temperature=temperature,
            similarity=similarity,
            key_log_weight=bias,
            row_weight=row_weight,
            backend=backend,
        )
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        inputs = [x for x in (q, None if itself else k, temperature, bias) if x is not None]
        pairs = zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True)
        for got, want in pairs:
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["paired", "two labels", "matrix", "pairs", "soft"])
def test_symmetric_is_the_mean_of_both_directions(name: str, backend: Backend) -> None:
    _, positives, weights = POSITIVES[name]
    rows, keys = weights.shape
    q, k = draw(rows, 4).requires_grad_(), draw(keys, 4, seed=1).requires_grad_()
    allowed = torch.ones(rows, keys, dtype=torch.bool)
    expected = (mean(definition(q, k, weights, allowed)) + mean(definition(k, q, weights.T, allowed.T))) / 2
    loss = contrast(q, k, positives=positives, symmetric=True, backend=backend)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    for got, want in zip(
        torch.autograd.grad(loss, (q, k)), torch.autograd.grad(expected, (q, k)), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("similarity", ["cosine", "neg_sqdist"])
@pytest.mark.parametrize("itself", [True, False])
def test_extra_negatives_join_the_rows_denominators(
    own: bool, similarity: Similarity, itself: bool, backend: Backend
) -> None:
    q, k = draw(N, 4).requires_grad_(), draw(N, 4, seed=1).requires_grad_()
    extra = (draw(N, 5, 4, seed=2) if own else draw(5, 4, seed=2)).requires_grad_()
    _, positives, weights = POSITIVES["stacked" if itself else "paired"]
    for rule, allowed in (
        (None, ~torch.eye(N, dtype=torch.bool) if itself else torch.ones(N, N, dtype=torch.bool)),
        (rules.Nothing(), weights > 0),
    ):
        losses = definition(q, q if itself else k, weights, allowed, similarity=similarity, others=extra)
        expected = mean(losses)
        loss = contrast(
            q,
            None if itself else k,
            positives=positives,
            denominator=rule,
            similarity=similarity,
            extra_negatives=extra,
            backend=backend,
        )
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        inputs = (q, extra) if itself else (q, k, extra)
        pairs = zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True)
        for got, want in pairs:
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions_are_separate_problems(backend: Backend) -> None:
    q, k = draw(2, 3, 5, 4), draw(2, 3, 5, 4, seed=1)
    ids = torch.randint(3, (2, 3, 5), generator=torch.Generator().manual_seed(2))
    temperature = draw(2, 3, 5, seed=3).abs() + 0.1
    extra = draw(2, 3, 5, 2, 4, seed=4)
    calls: list[Callable[[Any], Tensor]] = [
        lambda at: contrast(q[at], k[at], reduction="none", backend=backend),
        lambda at: contrast(
            q[at],
            k[at],
            denominator=rules.NotSame(ids[at]),
            temperature=temperature[at],
            extra_negatives=extra[at],
            reduction="none",
            backend=backend,
        ),
        lambda at: contrast(
            q[at], positives=ids[at], similarity="dot", on_empty="zero", reduction="none", backend=backend
        ),
        lambda at: contrast(q[at], k[at], symmetric=True, reduction="none", backend=backend),
        lambda at: contrast(q[at], positives=("next", 1), reduction="none", backend=backend),
    ]
    for call in calls:
        together = call(...)
        assert together.shape == (2, 3, 5)
        for i, j in itertools.product(range(2), range(3)):
            torch.testing.assert_close(together[i, j], call((i, j)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("similarity", ["cosine", "dot", "neg_sqdist"])
def test_gradients_are_the_derivatives(similarity: Similarity, backend: Backend) -> None:
    """Central differences in float64: rows, keys, a scale a row, a bias a key, random masks."""
    q, k = draw(7, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    temperature, bias = (draw(7, seed=2).abs() + 0.3).requires_grad_(), draw(5, seed=3).requires_grad_()
    mask = draw(7, 5, seed=4) > -0.3
    weights = draw(7, 5, seed=5).relu()

    def loss(q: Tensor, k: Tensor, temperature: Tensor, bias: Tensor) -> Tensor:
        return contrast(
            q,
            k,
            positives=weights,
            denominator=rules.Mask(mask),
            temperature=temperature,
            similarity=similarity,
            key_log_weight=bias,
            symmetric=True,
            backend=backend,
        )

    assert torch.autograd.gradcheck(loss, (q, k, temperature, bias))
    scalar = torch.tensor(0.4, dtype=DOUBLE, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, 1, 2, 0])
    for rule in (
        rules.NotSelf(),
        rules.NotSelf() & rules.NotBand(1),
        rules.NotSelf() & rules.Mask(mask.double() @ mask.double().T > 1),
    ):

        def own(q: Tensor, temperature: Tensor, rule: rules.Rule = rule) -> Tensor:
            return contrast(
                q,
                positives=labels,
                denominator=rule,
                temperature=temperature,
                similarity=similarity,
                backend=backend,
            )

        assert torch.autograd.gradcheck(own, (q, scalar))
        assert torch.autograd.gradcheck(own, (q, temperature))


def test_pair_weights_multiply_terms() -> None:
    q, k = draw(N, 4).requires_grad_(), draw(N, 4, seed=1)
    weight = draw(N, N, seed=2)
    rule = rules.LogWeight(lambda i, j: weight[i, j])
    similar = torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(k).T / 0.1
    expected = ((similar + weight).logsumexp(1) - similar.diagonal()).mean()
    for backend in BACKENDS:
        loss = contrast(q, k, denominator=rule, backend=backend)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        torch.testing.assert_close(
            *torch.autograd.grad([loss], q), *torch.autograd.grad([expected], q, retain_graph=True)
        )


def test_temperature_may_be_a_module() -> None:
    class Clamped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.tensor(2.0, dtype=DOUBLE))

        def forward(self) -> Tensor:
            return torch.exp(-self.log_scale.clamp(max=math.log(100)))

    module = Clamped()
    q, k = draw(6, 3), draw(6, 3, seed=1)
    loss = contrast(q, k, temperature=module)
    assert loss.item() == pytest.approx(contrast(q, k, temperature=math.exp(-2)).item())
    loss.backward()
    assert module.log_scale.grad is not None
    step = 1e-6
    slope = (
        contrast(q, k, temperature=math.exp(-2 - step)) - contrast(q, k, temperature=math.exp(-2 + step))
    ) / (2 * step)
    assert module.log_scale.grad.item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_computed_in_single(backend: Backend) -> None:
    q, k = draw(9, 4).bfloat16(), draw(9, 4, seed=1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = contrast(q, k, backend=backend)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, contrast(q.float(), k.float(), backend=backend))
    single = contrast(q.float(), k.float(), symmetric=True, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):  # float32 operands are not rounded either
        under = contrast(q.float(), k.float(), symmetric=True, backend=backend)
    assert torch.equal(single, under)


def test_second_derivatives_need_the_dense_backend() -> None:
    q = draw(6, 3).requires_grad_()
    cases: list[dict[str, Any]] = [{"positives": ("paired", 3)}, {"k": draw(6, 3, seed=1)}]
    for arguments in cases:
        loss = contrast(q, backend="tiled", **arguments)
        (first,) = torch.autograd.grad(loss, q, create_graph=True)  # allowed: nothing is wrong yet
        with pytest.raises(RuntimeError, match="backend='dense'"):
            first.square().sum().backward()
        assert torch.autograd.gradgradcheck(
            lambda q, arguments=arguments: contrast(q, backend="dense", **arguments), (q,)
        )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_row_weights_receive_the_gradient_of_the_weighted_mean(symmetric: bool, backend: Backend) -> None:
    q, k = draw(7, 4), draw(7, 4, seed=1)
    weight = draw(7, seed=2).abs().requires_grad_()
    each = contrast(q, k, symmetric=symmetric, reduction="none", backend=backend)
    expected = (weight * each).sum() / weight.sum()
    loss = contrast(q, k, symmetric=symmetric, row_weight=weight, backend=backend)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*torch.autograd.grad([loss], weight), *torch.autograd.grad([expected], weight))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_distances_do_not_depend_on_where_the_origin_is(offset: float, backend: Backend) -> None:
    q = draw(40, 8)
    q, k, extra, own = (
        q + offset,
        q + draw(40, 8, seed=1) + offset,
        draw(3, 8) + offset,
        draw(40, 2, 8) + offset,
    )
    for more in (None, extra, own):
        results = []
        for dtype in (DOUBLE, torch.float32):
            x, y = (v.float().to(dtype).requires_grad_() for v in (q, k))  # the same numbers in both
            loss = contrast(
                x,
                y,
                similarity="neg_sqdist",
                temperature=5,
                extra_negatives=None if more is None else more.float().to(dtype),
                backend=backend,
            )
            results.append([v.double() for v in (loss, *torch.autograd.grad(loss, (x, y)))])
        for got, want in zip(results[1], results[0], strict=True):
            assert (got - want).norm() <= 2e-6 * want.norm()


@pytest.mark.parametrize("factor", [1e-12, 1e-8, 1e8])
def test_cosines_do_not_depend_on_lengths(factor: float) -> None:
    q, k = draw(20, 8).float(), draw(20, 8, seed=1).float()
    tolerance = 0.5 if factor == 1e-12 else 1e-6  # as short as the guard against zero rows is
    assert contrast(q * factor, k).item() == pytest.approx(contrast(q, k).item(), rel=tolerance)


def test_weights_that_cancel_are_no_weights() -> None:
    """Row 0 is opposite to all others: its soft weights are 0, and their rounding must not be divided by."""
    for seed in range(50):
        v = torch.nn.functional.normalize(draw(1, 64, seed=seed, dtype=torch.float32))
        a = torch.cat([v, -v.expand(63, -1)])
        _, stats = contrast(draw(64, 8, seed=seed).float(), positives=Soft(0.5, 0.5, a, a), return_stats=True)
        assert stats.valid.tolist() == [False] + [True] * 63


def test_a_pair_of_weight_zero_is_none() -> None:
    q, k = draw(4, 3), draw(4, 3, seed=1)
    pairs = Pairs(
        torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 1, 1, 2, 3]), torch.tensor([1.0, 0, 1, 1, 1])
    )
    for include in (True, False):
        with_zero = contrast(q, k, positives=pairs, include_positive=include, reduction="none")
        torch.testing.assert_close(with_zero, contrast(q, k, include_positive=include, reduction="none"))


def test_a_row_is_never_in_its_own_denominator() -> None:
    ids = torch.tensor([0, 0, 1, 1])
    for rule in (rules.OnlySame(ids), rules.NotBand(1), rules.All(), rules.NotSelf(2)):
        z = draw(4, 3)
        explicit = contrast(z, positives=ids, denominator=rules.NotSelf() & rule)
        torch.testing.assert_close(contrast(z, positives=ids, denominator=rule), explicit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_pair_weights_count_beside_outside_keys_and_not_in_top1(backend: Backend) -> None:
    q, k, extra = draw(6, 4), draw(6, 4, seed=1), draw(3, 4, seed=2)
    rule = rules.Nothing() & rules.LogWeight(lambda i, j: 0.1 * (i + j))
    results = [
        contrast(q, k, positives=p, denominator=rule, extra_negatives=extra, backend=backend).item()
        for p in ("paired", torch.eye(6, dtype=DOUBLE))
    ]
    assert results[0] == pytest.approx(results[1])
    heavy = rules.LogWeight(lambda i, j: torch.full(torch.broadcast_shapes(i.shape, j.shape), 20.0))
    for positives_first in (q, k):
        stats = contrast(q, positives_first, denominator=heavy, backend=backend, return_stats=True)[1]
        plain = contrast(q, positives_first, backend=backend, return_stats=True)[1]
        assert torch.equal(stats.top1, plain.top1)


def test_extreme_operands_have_finite_gradients() -> None:
    """Logits are moderate, but one side is tiny and the other one huge; or the loss is scaled down."""
    unit = torch.nn.functional.normalize(draw(50, 4))
    q, k = (unit * 6.6e-7).float().requires_grad_(), (unit.roll(1, 0) * 1e8).float().requires_grad_()
    wide = [v.detach().double().requires_grad_() for v in (q, k)]
    grads = [
        torch.autograd.grad(contrast(*pair, similarity="dot", temperature=1, backend="tiled"), pair)
        for pair in ((q, k), wide)
    ]
    for got, want in zip(*grads, strict=True):
        assert (got.double() - want).norm() <= 1e-4 * want.norm()
    z = (torch.ones(60, 4) + 0.01 * draw(60, 4)).float().requires_grad_()
    loss = contrast(z, positives=("paired", 30), temperature=0.0145, backend="tiled")
    (large,), (small,) = torch.autograd.grad(loss, z, retain_graph=True), torch.autograd.grad(1e-7 * loss, z)
    assert (small * 1e7 - large).norm() <= 5e-5 * large.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["tiled", "auto"])
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_a_gpu_agrees_with_float64(
    backend: Backend, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.GPU_EDGE", 1000)
    a, b = draw(3001, 64), draw(3001, 64, seed=1)
    for arguments in ({"positives": ("paired", 3001)}, {"symmetric": True}):
        results = []
        for device, dtype in (("cpu", DOUBLE), ("cuda", torch.float32)):
            x, y = (v.to(device, dtype).requires_grad_() for v in (a, b))
            views = (torch.cat([x, y]),) if "positives" in arguments else (x, y)
            chosen = backend if device == "cuda" else "dense"
            loss: Tensor = contrast(*views, temperature=temperature, backend=chosen, **arguments)
            results.append([v.cpu().double() for v in (loss, *torch.autograd.grad(loss, (x, y)))])
        for got, want in zip(results[1], results[0], strict=True):
            assert (got - want).norm() <= 1e-5 * want.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_stats_say_what_was_compared(backend: Backend) -> None:
    labels = torch.tensor(LABELS)
    # Some rows look like their label, so that some positives win.
    q, extra = draw(N, 4) + 3 * torch.nn.functional.one_hot(labels.clamp(0, 3), 4), draw(3, 4, seed=1)
    loss, stats = contrast(
        q,
        positives=labels,
        extra_negatives=extra,
        backend=backend,
        return_stats=True,
        reduction="none",
    )
    unit = torch.nn.functional.normalize(q)
    similar = unit @ unit.T / 0.1
    more = unit @ torch.nn.functional.normalize(extra).T / 0.1
    for i in range(N):
        positive = [j for j in range(N) if j != i and LABELS[j] == LABELS[i] >= 0]
        negative = [similar[i, j] for j in range(N) if j != i and j not in positive] + list(more[i])
        assert stats.denominator_size[i] == N - 1 + 3
        assert stats.positive_weight[i] == len(positive)
        assert stats.valid[i] == bool(positive)
        if positive:
            logit = sum(similar[i, j] for j in positive) / len(positive)
            assert stats.positive[i].item() == pytest.approx(float(logit))
            assert stats.top1[i] == bool(logit > max(negative))
            assert loss[i].item() == pytest.approx((stats.lse[i] - stats.positive[i]).item())
    assert stats.top1.any()
    assert not stats.top1[stats.valid].all()
    summary = stats.summary()
    assert summary["top1"] == pytest.approx(stats.top1[stats.valid].double().mean().item())
    assert summary["lse_excess"] == pytest.approx((stats.lse[stats.valid] - math.log(N + 2)).mean().item())
    assert not stats.lse.requires_grad


def three(*shape: int) -> dict[str, Any]:
    return {"q": torch.ones(*shape, 2), "k": torch.ones(*shape, 2)}


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("q: floating point", {"q": torch.ones(3, 2, dtype=torch.int64)}),
        ("q: floating point", {"q": torch.ones(3)}),
        ("q: floating point", {"q": [[1.0]]}),
        ("q: at least one row", {"q": torch.ones(0, 2), "k": torch.ones(0, 2)}),
        ("q: at least one feature", {"q": torch.ones(2, 0), "k": torch.ones(2, 0)}),
        (
            "q: finite numbers expected, got nan at (1, 0)",
            {"q": torch.tensor([[1.0], [torch.nan]]), "k": torch.ones(2, 1)},
        ),
        (
            "k: finite numbers expected, got inf at (0, 1, 0)",
            {"q": torch.ones(1, 2, 1), "k": torch.tensor([[[1.0], [torch.inf]]])},
        ),
        ("k: 3 keys expected for positives='paired' with 3 rows, got 2", {**three(3), "k": torch.ones(2, 2)}),
        ("k: torch.float32 with 2 features", {**three(3), "k": torch.ones(3, 2).double()}),
        ("k: torch.float32 with 2 features", {**three(3), "k": torch.ones(3, 4)}),
        ("k: shape (5, M, 2)", {"q": torch.ones(5, 3, 2), "k": torch.ones(4, 3, 2)}),
        ("k: positives='paired' needs keys", {"q": torch.ones(3, 2)}),
        ("2 P rows", {"q": torch.ones(3, 2), "positives": ("paired", 2)}),
        ("2 P rows", {"q": torch.ones(4, 2), "positives": ("paired", 4)}),
        ("2 P rows", {**three(4), "positives": ("paired", 2)}),
        ("positives: ('next', s)", {"q": torch.ones(4, 2), "positives": ("next", 4)}),
        ("positives: ('next', s)", {"q": torch.ones(4, 2), "positives": ("next", 0)}),
        ("positives: 'paired', ('paired', N)", {"q": torch.ones(4, 2), "positives": "pairs"}),
        ("positives: 'paired', ('paired', N)", {"q": torch.ones(4, 2), "positives": ("paired", 2.0)}),
        (
            "positives: integer labels of shape (4,)",
            {"q": torch.ones(4, 2), "positives": torch.ones(3).long()},
        ),
        (
            "positives: labels of both sides",
            {**three(4), "k": torch.ones(3, 2), "positives": torch.zeros(4).long()},
        ),
        (
            "positives: one tensor of labels",
            {"q": torch.ones(2, 2), "positives": (torch.ones(2).long(), torch.zeros(2).long())},
        ),
        ("positives: weights of shape (4, 4)", {**three(4), "positives": torch.ones(4, 3)}),
        ("positives: weights finite and not negative", {**three(2), "positives": -torch.ones(2, 2)}),
        (
            "positives: Pairs.keys in [0, 2)",
            {**three(2), "positives": Pairs(torch.tensor([0]), torch.tensor([2]))},
        ),
        (
            "positives: Pairs.keys integers of shape (2,)",
            {**three(2), "positives": Pairs(torch.tensor([0, 1]), torch.tensor([1]))},
        ),
        (
            "positives: a row is no positive of itself",
            {"q": torch.ones(2, 2), "positives": Pairs(torch.tensor([1]), torch.tensor([1]))},
        ),
        (
            "positives: Pairs need q",
            {**three(2, 3), "positives": Pairs(torch.tensor([1]), torch.tensor([1]))},
        ),
        (
            "positives: Soft.b of shape (3, 1)",
            {**three(3), "positives": Soft(1, 1, torch.ones(3, 1), torch.ones(2, 1))},
        ),
        ("positives: at least one row", {"q": torch.ones(3, 2), "positives": torch.tensor([0, 1, 2])}),
        (
            "denominator: at least one row",
            {**three(3), "denominator": rules.Nothing(), "include_positive": False},
        ),
        (
            "denominator: NotSame.ids of shape (3,) expected, got (4,)",
            {**three(3), "denominator": rules.NotSame(torch.arange(4))},
        ),
        (
            "denominator: OnlySame.key_ids of shape (3,) expected, got (2,)",
            {**three(3), "denominator": rules.OnlySame(torch.arange(3), torch.arange(2))},
        ),
        (
            "denominator: Mask.mask of shape (3, 3)",
            {**three(3), "denominator": rules.Mask(torch.ones(3, 2).bool())},
        ),
        (
            "torch.bool expected from the function of Callable, got torch.int64",
            {**three(3), "denominator": rules.Callable(lambda i, j: i + j)},
        ),
        (
            "torch.bool expected from the function of Callable, got True",
            {**three(3), "denominator": rules.Callable(lambda i, j: True)},  # type: ignore[arg-type,return-value]
        ),
        (
            "shape (3, 3) expected from the function of Callable, got (3, 1)",
            {**three(3), "denominator": rules.Callable(lambda i, j: i > 0)},
        ),
        (
            "finite numbers expected from the function of LogWeight",
            {**three(3), "denominator": rules.LogWeight(lambda i, j: (i - j).float().log())},
        ),
        (
            "floating point expected from the function of LogWeight, got 1.0",
            {**three(3), "denominator": rules.LogWeight(lambda i, j: 1.0)},  # type: ignore[arg-type,return-value]
        ),
        (
            "denominator: Mask.mask of shape (3, 3) expected, got (2, 3, 3)",
            {**three(3), "denominator": rules.Mask(torch.ones(2, 3, 3).bool())},
        ),
        (
            "denominator: NotSame.ids of shape (3,) or (5, 3) expected, got (4, 3)",
            {**three(5, 3), "denominator": rules.NotSame(torch.ones(4, 3).long())},
        ),
        ("denominator: a rule", {**three(3), "denominator": "all"}),
        ("denominator: a rule", {**three(3), "denominator": rules.NotSelf}),
        ("queue: a KeyQueue expected, got Tensor", {**three(3), "queue": torch.ones(4, 2)}),
        ("extra_negatives: at least one", {**three(3), "extra_negatives": torch.ones(0, 2)}),
        ("row_weight: at least one positive", {**three(3), "row_weight": torch.zeros(3)}),
        ("temperature: a positive number", {**three(3), "temperature": True}),
        ("temperature: finite positive values", {**three(3), "temperature": torch.tensor(math.inf)}),
        ("positives: 'paired', ('paired', N)", {"q": torch.ones(2, 2), "positives": ("paired", True)}),
        (
            "positives: finite numbers expected in Soft.a",
            {**three(2), "positives": Soft(1, 1, torch.full((2, 1), math.nan), torch.ones(2, 1))},
        ),
        (
            "finite Soft.alpha",
            {**three(2), "positives": Soft(math.nan, 1, torch.ones(2, 1), torch.ones(2, 1))},
        ),
        (
            "positives: Soft weights of a row that add up to 0 or more expected, got -2.0",
            {**three(2), "positives": Soft(0, 1, torch.tensor([[1.0], [-1.0]]), torch.ones(2, 1))},
        ),
        ("positives: Pairs.rows tensor of integers", {**three(2), "positives": Pairs([0], [1])}),  # type: ignore[arg-type]
        ("symmetric: needs keys", {"q": torch.ones(4, 2), "positives": ("paired", 2), "symmetric": True}),
        (
            "symmetric: keys of the batch in the denominator",
            {**three(3), "symmetric": True, "denominator": rules.Nothing()},
        ),
        (
            "symmetric: as many keys",
            {
                **three(4),
                "k": torch.ones(2, 2),
                "positives": torch.ones(4, 2),
                "symmetric": True,
                "reduction": "none",
            },
        ),
        ("temperature: a positive", {**three(3), "temperature": 0}),
        ("temperature: a positive", {**three(3), "temperature": math.nan}),
        ("temperature: a positive", {**three(3), "temperature": math.inf}),
        ("temperature: a positive", {**three(3), "temperature": "0.1"}),
        (
            "temperature: finite positive values expected, got -1",
            {**three(3), "temperature": torch.tensor(-1.0)},
        ),
        (
            "temperature: finite positive values expected, got nan",
            {**three(3), "temperature": torch.tensor(math.nan)},
        ),
        ("temperature: one value or (3,) expected", {**three(3), "temperature": torch.ones(2)}),
        ("key_log_weight: floating point of shape (3,)", {**three(3), "key_log_weight": torch.ones(2)}),
        ("key_log_weight: finite values", {**three(3), "key_log_weight": torch.full((3,), -math.inf)}),
        ("row_weight: finite values of 0 or more", {**three(3), "row_weight": torch.tensor([1.0, -1, 0])}),
        ("row_weight: floating point of shape (3,)", {**three(3), "row_weight": torch.ones(3).long()}),
        ("extra_negatives: (R, d) or (3, 'R', 2)", {**three(3), "extra_negatives": torch.ones(2, 4, 2)}),
        ("extra_negatives: torch.float32 with 2 features", {**three(3), "extra_negatives": torch.ones(4, 3)}),
        (
            "similarity: 'cosine' or 'dot' or 'neg_sqdist' expected, got 'l2'",
            {**three(3), "similarity": "l2"},
        ),
        ("reduction:", {**three(3), "reduction": "average"}),
        ("on_empty:", {**three(3), "on_empty": "nan"}),
        ("backend:", {**three(3), "backend": "fast"}),
    ],
)
def test_bad_arguments_are_named(message: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        contrast(**arguments)
    assert message in str(error.value)


def test_bad_rules_are_refused_when_made() -> None:
    for make, message in (
        (lambda: rules.NotBand(-1), "NotBand.width: 0 or more expected, got -1"),
        (
            lambda: rules.NotSame(torch.ones(3)),
            "NotSame.ids: integer tensor (N,) expected, got torch.float32",
        ),
        (lambda: rules.OnlySame([1, 2]), "OnlySame.ids: integer tensor (N,) expected, got [1, 2]"),  # type: ignore[arg-type]
        (
            lambda: rules.Mask(torch.ones(2, 2)),
            "Mask.mask: boolean tensor (N, M) expected, got torch.float32",
        ),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
            make()
        assert message in str(error.value)
