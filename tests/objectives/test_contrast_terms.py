"""Several contrasts from one matrix of similarities: each is what ``contrast`` gives alone, and they share the work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nearfar.objectives import OtherGroups, Soft, Term, contrast, contrast_terms, joint, tiles
from nearfar.objectives import denominator as rules
from nearfar.objectives.logsumexp import Backend, small_tiles
from nearfar.objectives.similarity import Similarity
from nearfar.testing import LargestTensor

DOUBLE = torch.float64
BACKENDS: list[Backend] = ["dense", "tiled"]
N, M = 26, 19


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 5)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return (scale * torch.randn(*shape, generator=rng(seed), dtype=dtype)).requires_grad_()


LABELS = torch.randint(3, (N // 2,), generator=rng(1)).repeat(2)
GROUPS = LABELS * 4 + torch.randint(3, (N // 2,), generator=rng(2)).repeat(2)
ITEMS = torch.arange(N // 2).repeat(2)
KEYS = torch.randint(N, (M,), generator=rng(3))
TAU = torch.rand(N, generator=rng(4)) + 0.1
FEATURES = torch.rand(N, 3, generator=rng(5), dtype=DOUBLE)


def both(ids: Tensor) -> tuple[Tensor, Tensor]:
    return ids, ids[KEYS]


# Terms of rows with themselves, and of rows with keys; the first is what the second is relative to.
OWN: dict[str, list[Term]] = {
    "SBCL": [Term(GROUPS), Term(OtherGroups(LABELS, GROUPS, ITEMS), rules.NotSame(GROUPS), TAU)],
    "one": [Term(("paired", N // 2), temperature=0.3)],
    "one a row": [Term(("paired", N // 2), temperature=TAU)],
    "numbers": [Term(("paired", N // 2)), Term(LABELS, temperature=0.7), Term(GROUPS)],
    "scalars": [
        Term(LABELS, temperature=torch.tensor(0.2)),
        Term(("paired", N // 2), temperature=torch.tensor([0.4])),
    ],
    "only rows": [Term(LABELS, temperature=TAU), Term(GROUPS, rules.OnlySame(LABELS), TAU.flip(0))],
    "row then number": [Term(LABELS, temperature=TAU), Term(GROUPS, temperature=0.2)],
    "decoupled": [Term(LABELS, include_positive=False), Term(GROUPS, rules.NotPositive(), 0.5)],
    "one way": [Term(("next", 1)), Term(Soft(0.5, 0.5, FEATURES, FEATURES), rules.NotSelf(2), TAU)],
    "bounds": [Term(LABELS, rules.Nothing(), TAU), Term(GROUPS, temperature=0.3)],
    "weights": [
        Term(LABELS, rules.LogWeight(lambda i, j: ((i + j) % 5) / 3.0, is_symmetric=True)),
        Term(GROUPS, rules.LogWeight(lambda i, j: (i - 2 * j) / 9.0), TAU),
        Term(ITEMS, rules.LogWeight(lambda i, j: (i * j % 7) / 3.0, is_symmetric=True), 0.4),
    ],
    "symmetric weights": [
        Term(LABELS, rules.LogWeight(lambda i, j: ((i + j) % 5) / 3.0, is_symmetric=True)),
        Term(GROUPS, rules.LogWeight(lambda i, j: (i * j % 7) / 3.0, is_symmetric=True), TAU),
    ],
}
CROSS: dict[str, list[Term]] = {
    "SBCL": [
        Term(both(GROUPS)),
        Term(OtherGroups(both(LABELS), both(GROUPS), both(ITEMS)), rules.NotSame(*both(GROUPS)), TAU),
    ],
    "numbers": [Term(both(LABELS)), Term(both(GROUPS), temperature=0.7), Term(both(GROUPS))],
    "only rows": [Term(both(LABELS), temperature=TAU), Term(both(ITEMS), rules.NotBand(3), TAU.flip(0))],
    "weights": [
        Term(both(LABELS), rules.LogWeight(lambda i, j: (i - 2 * j) / 9.0)),
        Term(both(ITEMS), temperature=TAU),
    ],
}
CASES = [(name, True, terms) for name, terms in OWN.items()]
CASES += [(f"{name}, keys", False, terms) for name, terms in CROSS.items()]


def alone(q: Tensor, k: Tensor | None, terms: list[Term], **options: Any) -> list[Tensor]:
    """The same by a call of ``contrast`` a term, dense."""
    return [contrast(q, k, **vars(term), backend="dense", **options) for term in terms]


def weighted(losses: list[Tensor]) -> Tensor:
    return torch.stack([(0.3 + i) * loss.sum() for i, loss in enumerate(losses)]).sum()


def assert_same(got: list[Tensor], wanted: list[Tensor], inputs: list[Tensor]) -> None:
    assert len(got) == len(wanted)
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-11)
    gradients = (torch.autograd.grad(weighted(losses), inputs) for losses in (got, wanted))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1.0, 60.0])  # logits that need no shift, and such that do
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_every_term_is_what_contrast_gives_for_it(
    case: tuple[str, bool, list[Term]], scale: float, backend: Backend
) -> None:
    _, itself, terms = case
    similarity: Similarity = "cosine" if scale == 1 else "dot"
    q, k = draw(N, 4, scale=scale**0.5), None if itself else draw(M, 4, seed=1, scale=scale**0.5)
    options: dict[str, Any] = {"similarity": similarity, "on_empty": "zero"}
    inputs = [q] if k is None else [q, k]
    got = contrast_terms(q, k, terms=terms, backend=backend, **options)
    assert_same(got, alone(q, k, terms, **options), inputs)
    each = contrast_terms(q, k, terms=terms, backend=backend, reduction="none", **options)
    assert_same(each, alone(q, k, terms, reduction="none", **options), inputs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("similarity", ["dot", "neg_sqdist"])
@pytest.mark.parametrize("name", CROSS)
def test_other_similarities(name: str, similarity: Similarity, backend: Backend) -> None:
    q, k = draw(N, 4), draw(M, 4, seed=1)
    got = contrast_terms(q, k, terms=CROSS[name], similarity=similarity, backend=backend)
    assert_same(got, alone(q, k, CROSS[name], similarity=similarity), [q, k])
    got = contrast_terms(q, terms=OWN["SBCL"], similarity=similarity, backend=backend)
    assert_same(got, alone(q, None, OWN["SBCL"], similarity=similarity), [q])


@pytest.mark.parametrize("backend", BACKENDS)
def test_leading_dimensions_are_separate_problems(backend: Backend) -> None:
    q, k = draw(2, 3, 7, 4), draw(2, 3, 5, 4, seed=1)
    ids = torch.randint(3, (2, 3, 7), generator=rng(2))
    tau = torch.rand(2, 3, 7, generator=rng(3), dtype=DOUBLE) + 0.1
    own = [Term(ids), Term(("next", 1), rules.NotSame(ids), tau), Term(("next", 2), temperature=tau[0, 0])]
    cross = [Term((ids, ids[..., :5])), Term((ids[0, 0], ids[0, 0, :5]), temperature=tau)]
    for keys, terms in ((None, own), (k, cross)):
        inputs = [q] if keys is None else [q, k]
        for reduction in ("mean", "none"):
            options: dict[str, Any] = {"reduction": reduction, "on_empty": "zero"}
            got = contrast_terms(q, keys, terms=terms, backend=backend, **options)
            assert_same(got, alone(q, keys, terms, **options), inputs)


@pytest.mark.parametrize("edge", [1, 2, 7, 26, 100])
def test_any_tile_gives_the_same(edge: int) -> None:
    q, k = draw(N, 4), draw(M, 4, seed=1)
    with small_tiles(edge):
        for terms in OWN.values():
            assert_same(
                contrast_terms(q, terms=terms, on_empty="zero"), alone(q, None, terms, on_empty="zero"), [q]
            )
        for terms in CROSS.values():
            assert_same(contrast_terms(q, k, terms=terms), alone(q, k, terms), [q, k])  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("itself", [True, False])
def test_gradients_are_the_derivatives(itself: bool, backend: Backend) -> None:
    q, k = draw(N, 3), draw(M, 3, seed=1)
    terms = (OWN if itself else CROSS)["SBCL"]

    def losses(q: Tensor, k: Tensor) -> tuple[Tensor, ...]:
        return tuple(contrast_terms(q, None if itself else k, terms=terms, backend=backend))

    if itself:
        assert torch.autograd.gradcheck(lambda q: losses(q, k), (q,))
    else:
        assert torch.autograd.gradcheck(losses, (q, k))


@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.parametrize("itself", [True, False])
def test_a_term_that_is_not_used_has_no_gradient(used: int, itself: bool) -> None:
    q, k, terms = draw(N, 4), None if itself else draw(M, 4, seed=1), (OWN if itself else CROSS)["SBCL"]
    got = contrast_terms(q, k, terms=terms, backend="tiled")[used]
    wanted = contrast(q, k, **vars(terms[used]), backend="dense")
    (mine,), (theirs,) = (torch.autograd.grad(loss, q) for loss in (got, wanted))
    torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("low", [0.01, torch.full((N,), 0.01)], ids=["number", "one a row"])
def test_a_low_temperature_beside_a_high_one_does_not_overflow(low: float | Tensor) -> None:
    """Powers of two of the first term's logits are small numbers, those of the second are beyond single precision."""
    z = draw(N, 4, dtype=torch.float32)
    terms = [Term(LABELS, temperature=1.0), Term(GROUPS, temperature=low)]
    got = contrast_terms(z, terms=terms, backend="tiled")
    wide = z.detach().double().requires_grad_()
    wanted = alone(wide, None, terms)
    torch.testing.assert_close([x.double() for x in got], wanted, atol=1e-4, rtol=1e-5)
    (mine,), (theirs,) = (torch.autograd.grad(weighted(x), y) for x, y in ((got, z), (wanted, wide)))
    torch.testing.assert_close(mine.double(), theirs, atol=1e-3, rtol=1e-4)


def test_fixed_keys_and_fixed_rows() -> None:
    q, k, terms = draw(N, 4), draw(M, 4, seed=1), CROSS["SBCL"]
    for left, right, to in ((q, k.detach(), q), (q.detach(), k, k)):
        got = weighted(contrast_terms(left, right, terms=terms, backend="tiled"))
        (mine,) = torch.autograd.grad(got, to)
        (theirs,) = torch.autograd.grad(weighted(alone(left, right, terms)), to)
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-9)


def computed(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """Tiles of logits computed."""
    count, call = 0, tiles.Logits.__call__

    def counted(self: tiles.Logits, tile: tiles.Tile, *operands: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return call(self, tile, *operands)

    with monkeypatch.context() as patch:
        patch.setattr(tiles.Logits, "__call__", counted)
        run()
    return count


def test_a_tile_is_computed_once_for_all_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward; half of them in self-contrast, though temperatures are the rows' own."""
    q, k = draw(30, 4), draw(20, 4, seed=1)
    ids = torch.arange(30) // 2
    own = [
        Term(ids),
        Term(("next", 1), rules.NotSelf(2), TAU[:1].expand(30)),
        Term(ids, temperature=torch.full((30,), 0.2)),
    ]
    symmetric = [own[0], own[2], Term(ids, rules.NotSame(ids // 3), torch.full((30,), 0.2))]
    cross = [Term((ids, ids[:20])), Term((ids, ids[:20]), temperature=torch.full((30,), 0.2))]

    def step(terms: list[Term], keys: Tensor | None = None) -> None:
        weighted(contrast_terms(q, keys, terms=terms, backend="tiled")).backward()

    assert computed(lambda: step(own), monkeypatch) == 2 * 36
    assert computed(lambda: step(symmetric), monkeypatch) == 2 * 21
    assert computed(lambda: step(cross, k), monkeypatch) == 2 * 24


def test_the_dense_backend_multiplies_once() -> None:
    products: list[torch.Size] = []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func.name().startswith(("aten::bmm", "aten::mm", "aten::matmul")):
                products.append(out.shape)
            return out

    with Products():  # type: ignore[no-untyped-call]
        contrast_terms(draw(N, 4), terms=OWN["SBCL"], backend="dense")
    assert products == [(1, N, N)]


def test_nothing_grows_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfar.objectives.tiles.CPU_EDGE", 64)
    q, ids = draw(640, 8, dtype=torch.float32), torch.arange(640) // 4
    positives = OtherGroups(ids // 8, ids, torch.arange(640) // 2)
    terms = [Term(ids), Term(positives, rules.NotSame(ids), torch.rand(640, generator=rng(0)) + 0.1)]
    with LargestTensor() as largest:
        weighted(contrast_terms(q, terms=terms, backend="tiled")).backward()
    assert largest.numbers <= max(64 * 64, 640 * 8)


def test_rows_of_a_group_are_visited_together() -> None:
    """After sorting by group only tiles on the diagonal ask for positives one by one."""
    asked = 0
    part = joint.Selection.part

    def counted(self: joint.Selection, tile: tiles.Tile) -> tiles.Tile:
        nonlocal asked
        found = part(self, tile)
        asked += isinstance(found.keep, Tensor)
        return found

    ids = torch.arange(30) % 6
    positives = OtherGroups(ids // 3, ids, torch.arange(30))
    terms = [Term(ids), Term(positives, rules.NotSame(ids), TAU[:1].expand(30))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint.Selection, "part", counted)
        losses = contrast_terms(draw(30, 4), terms=terms, backend="tiled")
    assert asked == 2 * 6
    assert [x.item() for x in losses] == pytest.approx([x.item() for x in alone(draw(30, 4), None, terms)])


def test_equal_calls_give_equal_bits() -> None:
    z = draw(300, 16, dtype=torch.float32)
    ids = torch.arange(300) % 20
    terms = [Term(ids), Term(ids, rules.NotBand(3), torch.rand(300, generator=rng(0)) + 0.1)]
    runs = []
    for _ in range(2):
        losses = contrast_terms(z, terms=terms, backend="tiled")
        runs.append((*losses, *torch.autograd.grad(weighted(losses), z)))
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_computed_in_single(backend: Backend) -> None:
    z = draw(N, 8, dtype=torch.bfloat16)
    wanted = alone(z.float(), None, OWN["SBCL"])
    with torch.autocast("cpu", torch.bfloat16):
        got = contrast_terms(z, terms=OWN["SBCL"], backend=backend)
    assert [x.dtype for x in got] == [torch.float32] * 2
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(weighted(got), z)
    assert gradient.dtype == torch.bfloat16


def test_second_derivatives_are_those_of_the_dense_backend_only() -> None:
    q, terms = draw(N, 3), OWN["SBCL"]
    assert torch.autograd.gradgradcheck(
        lambda q: weighted(contrast_terms(q, terms=terms, backend="dense")), (q,)
    )
    loss = weighted(contrast_terms(q, terms=terms, backend="tiled"))
    (gradient,) = torch.autograd.grad(loss, q, create_graph=True)
    with pytest.raises(RuntimeError, match="only the dense backend has second derivatives"):
        torch.autograd.grad(gradient.sum(), q)


def test_rows_without_positives_are_an_error_or_zero_for_their_term() -> None:
    q, ids = draw(4, 3), torch.arange(4)
    terms = [Term(torch.tensor([0, 0, 1, 2])), Term(ids)]
    with pytest.raises(ValueError, match="positives: at least one row with a positive expected"):
        contrast_terms(q, terms=terms)
    some, none = contrast_terms(q, terms=terms, on_empty="zero")
    assert some.item() != 0
    assert none.item() == 0
    (gradient,) = torch.autograd.grad(none, q)
    assert not gradient.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": []}, "terms: at least one Term expected, got []"),
        ({"terms": ["paired"]}, "terms: at least one Term expected, got ['paired']"),
        (
            {"terms": [Term(GROUPS, temperature=torch.tensor(0.1, requires_grad=True))]},
            "terms: temperatures without gradient expected",
        ),
        ({"terms": [Term(GROUPS), Term(GROUPS, temperature=0.0)]}, "temperature: a positive number expected, got 0.0"),
        ({"terms": [Term(GROUPS), Term(GROUPS, temperature=TAU[:3])]}, "temperature: one value or (26,) expected"),
        ({"terms": [Term(GROUPS), Term(GROUPS, temperature=-TAU)]}, "temperature: finite positive values expected"),
        ({"terms": [Term(GROUPS), Term(GROUPS[:3])]}, "positives: integer labels of shape (26,) expected"),
        ({"terms": [Term(GROUPS), Term(GROUPS, "all")]}, "denominator: a rule of nearfar.objectives.denominator"),  # type: ignore[arg-type]
        ({"terms": [Term(GROUPS), Term(GROUPS, rules.NotSame(GROUPS[:3]))]}, "denominator: NotSame.ids of shape (26,)"),
        ({"backend": "gpu"}, "backend: 'auto' or 'dense' or 'tiled' or 'triton' expected, got 'gpu'"),
        ({"similarity": "l2"}, "similarity: 'cosine' or 'dot' or 'neg_sqdist' expected, got 'l2'"),
        ({"reduction": "max"}, "reduction: "),
        ({"on_empty": "skip"}, "on_empty: "),
        ({"q": torch.full((N, 4), torch.nan)}, "q: finite numbers expected, got nan at (0, 0)"),
        ({"k": torch.ones(3, 5, dtype=DOUBLE)}, "k: torch.float64 with 4 features on cpu expected"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"q": draw(N, 4), "terms": OWN["SBCL"], **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        contrast_terms(**arguments)


def test_the_kernels_are_refused_where_they_cannot_be_used() -> None:
    with pytest.raises(ValueError, match="backend: 'triton' cannot be used"):
        contrast_terms(draw(N, 4, dtype=torch.float32), terms=OWN["SBCL"], backend="triton")


def test_operands_of_a_term_alone_have_its_logits() -> None:
    """What the kernels are given, which compute similarities themselves."""
    a, k = draw(1, 6, 3), draw(1, 5, 3, seed=1)
    per_row = torch.rand(1, 6, generator=rng(0), dtype=DOUBLE)
    for other in (None, k):
        logits = a @ (a if other is None else other).mT
        for scale in (1.0, 0.3, per_row):
            left, right = joint.Selection(rules.All(), scale).operands(a, other)
            factor = scale[..., None] if isinstance(scale, Tensor) else scale
            torch.testing.assert_close(left @ (left if right is None else right).mT, logits * factor)
