"""The CUDA backend against the dense one in float64.

Everything around the kernels runs everywhere, with the kernels' formulas in PyTorch in their place. Where Triton is
installed the same tests run a second time with the kernels in Triton's interpreter, and ``-m gpu`` runs them a third
time on a device; both in processes of their own, since Triton decides at import how it runs kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast, fused, parity
from nearfar.objectives import denominator as rules
from nearfar.objectives.conditions import TruthTable
from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.denominator.combine import Not, Or, with_positives
from nearfar.objectives.dense import dense_log_sum_exp
from nearfar.objectives.fused import Blocks, Pairing, fused_log_sum_exp, supports
from nearfar.objectives.logsumexp import DENSE_LOGITS, WIDEST_FUSED, log_sum_exp
from nearfar.objectives.parity import failure, obstacle
from nearfar.objectives.positives import Pairs, resolve
from nearfar.objectives.positives.labels import SameLabel
from nearfar.objectives.positives.shifts import Diagonal, Partner
from nearfar.objectives.tiles import LOG2E, Order, Upstream
from nearfar.optional import installed

DEVICE = os.environ.get("NEARFAR_TEST_DEVICE", "cpu")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EMULATED = DEVICE == "cpu" and not INTERPRETED
outside_only = pytest.mark.skipif(not EMULATED, reason="starts the other process")


def keep_of(pairing: Pairing) -> Tensor:
    """What the kernels' comparison says of every pair, ``(B', N, M)``."""
    case = torch.zeros(1, 1, 1, dtype=torch.long, device=pairing.rows.device)
    for i, condition in enumerate(pairing.table.conditions):
        rows, keys = pairing.rows[i, :, :, None], pairing.keys[i, :, None, :]
        holds = rows == keys if condition.reach is None else (rows - keys).abs() <= condition.reach
        case = case + holds.long() * 2**i
    return (pairing.table.truth >> case) & 1 == 1


def emulated_sums(x: Tensor, y: Tensor, pairing: Pairing) -> Tensor:
    return (x @ y.mT).masked_fill(~keep_of(pairing), -torch.inf).logsumexp(-1) * LOG2E


def emulated_gradient(
    x: Tensor, y: Tensor, pairing: Pairing, by_row: Upstream | None, by_key: Upstream | None
) -> Tensor:
    logits = x @ y.mT * LOG2E
    weights = torch.zeros_like(logits)
    if by_row is not None:
        weights += by_row.coefficient[..., None] * torch.exp2(logits - by_row.offset[..., None])
    if by_key is not None:
        weights += by_key.coefficient[..., None, :] * torch.exp2(logits - by_key.offset[..., None, :])
    return torch.where(keep_of(pairing), weights, 0) @ y


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas instead of kernels, or kernels with blocks so small that a few rows have several."""
    failure.cache_clear()
    if EMULATED:
        monkeypatch.setattr(fused, "_sums", emulated_sums)
        monkeypatch.setattr(fused, "_gradient", emulated_gradient)
        # As if Triton were there and told to interpret.
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        monkeypatch.setattr(parity, "installed", lambda module: True)
    if DEVICE == "cpu":
        monkeypatch.setattr(Blocks, "choose", lambda width, precision: Blocks(16, 16, 16, 16, 1, 1))
        monkeypatch.setattr(parity, "NUM_ROWS", 40)
        monkeypatch.setattr(parity, "NUM_KEYS", 35)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE).requires_grad_()


IDS = torch.arange(100) * 7 % 5 - 1
MANY_IDS = torch.stack([IDS, IDS.flip(0), IDS // 2])
PARTNERS = (torch.arange(20) + 10) % 20
SAME_LABEL = SameLabel(IDS[:20], IDS[:20], True)

# Name: how many rows, keys (None: the rows themselves), and the rule.
CASES: dict[str, tuple[int, int | None, Callable[[], Rule]]] = {
    "all": (20, 35, rules.All),
    "all, itself": (20, None, rules.All),
    "nothing": (20, 18, rules.Nothing),
    "not self": (20, None, rules.NotSelf),
    "not self, keys": (20, 35, rules.NotSelf),
    "not self, offset": (20, None, lambda: rules.NotSelf(-3)),
    "far offset": (20, 18, lambda: rules.NotSelf(2**40)),
    "band": (20, None, lambda: rules.NotBand(2)),
    "band, keys": (35, 20, lambda: rules.NotBand(17)),
    "not same": (20, None, lambda: rules.NotSame(IDS[:20])),
    "not same, keys": (20, 35, lambda: rules.NotSame(IDS[:20], IDS[:35].int())),
    "only same": (20, None, lambda: rules.OnlySame(IDS[:20])),
    "only same, empty rows": (35, 4, lambda: rules.OnlySame(IDS[:35], IDS[:4].clamp(max=1))),
    "large ids": (20, 20, lambda: rules.NotSame(IDS[:20] * 2**40, IDS[:20] * 2**40 + (IDS[:20] > 2))),
    "diagonal": (20, 35, lambda: Diagonal(3)),
    "partners": (20, None, lambda: rules.NotSelf() & Not(Diagonal(10, 20))),
    "partners by list": (20, None, lambda: Or(rules.OnlySame(IDS[:20]), Partner(PARTNERS))),
    "same label": (20, None, lambda: SAME_LABEL),
    "same label, keys": (20, 35, lambda: SameLabel(IDS[:20], IDS[:35], False)),
    "decoupled": (
        20,
        None,
        lambda: with_positives(rules.NotSelf(), SAME_LABEL, include=False, itself=True),
    ),
    "four conditions": (
        20,
        None,
        lambda: with_positives(
            rules.NotSelf() & rules.NotBand(1) & rules.NotSame(IDS[20:40]),
            SAME_LABEL,
            include=True,
            itself=False,
        ),
    ),
}
SIZES = [(1, 1), (1, 33), (7, 33), (33, 7), (16, 16), (70, 33)]


@dataclass
class Outcome:
    rows: Tensor
    columns: Tensor | None
    gradients: tuple[Tensor, ...]


def outcome(
    compute: Callable[..., tuple[Tensor, Tensor | None]], inputs: list[Tensor], rule: Rule, **options: bool
) -> Outcome:
    """Sums and gradients for upstream gradients that differ from row to row; wide inputs go the dense way."""
    itself = len(inputs) == 1
    if inputs[0].dtype == torch.float64:
        rows, columns = compute(inputs[0], inputs[-1], rule, **options, order=Order())
    else:
        rows, columns = compute(inputs[0], None if itself else inputs[1], rule, **options)
    sums = [x for x in (rows, columns) if x is not None]
    upstream = [draw(*x.shape, seed=9 + i).detach().to(x.dtype) for i, x in enumerate(sums)]
    return Outcome(rows.detach(), columns, torch.autograd.grad(sums, inputs, upstream))


def expect_equal(inputs: list[Tensor], rule: Rule, *, columns: bool, tolerance: float = 3e-5) -> Outcome:
    wide = [x.detach().double().requires_grad_() for x in inputs]
    found = outcome(fused_log_sum_exp, inputs, rule, columns=columns)
    exact = outcome(dense_log_sum_exp, wide, rule, columns=columns)
    close = partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance, check_dtype=False)
    close(found.rows, exact.rows)
    assert (found.columns is None) == (exact.columns is None)
    if found.columns is not None:
        close(found.columns, exact.columns)
    for ours, theirs in zip(found.gradients, exact.gradients, strict=True):
        scale = theirs.abs().amax().clamp(min=1)
        close(ours / scale, theirs / scale)
    return found


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str) -> None:
    num_rows, num_keys, build = CASES[name]
    inputs = [draw(1, num_rows, 8)] + ([] if num_keys is None else [draw(1, num_keys, 8, seed=1)])
    expect_equal(inputs, build(), columns=num_keys is not None)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("columns", [True, False])
def test_sizes(sizes: tuple[int, int], columns: bool) -> None:
    # More coordinates than a block: dot products and gradients in parts.
    inputs = [draw(1, sizes[0], 21), draw(1, sizes[1], 21, seed=1)]
    expect_equal(inputs, rules.NotSelf(1) & rules.NotBand(0), columns=columns)


@pytest.mark.parametrize("width", [1, 5, 16])
def test_widths(width: int) -> None:
    expect_equal([draw(1, 19, width)], rules.NotSelf(), columns=False)


@pytest.mark.parametrize("itself", [True, False])
def test_problems_have_their_own_ids(itself: bool) -> None:
    inputs = [draw(3, 17, 4)] + ([] if itself else [draw(3, 20, 4, seed=1)])
    rule = rules.NotSelf() & rules.NotSame(MANY_IDS[:, :17], None if itself else IDS[:20])
    expect_equal(inputs, rule, columns=not itself)


def test_problems_may_share_keys_without_copies() -> None:
    q, keys = draw(3, 17, 4), draw(1, 20, 4, seed=1)
    rule = rules.NotSame(IDS[:17], IDS[:20])
    found = outcome(lambda q, k, rule: fused_log_sum_exp(q, k.expand(3, -1, -1), rule), [q, keys], rule)
    copies = outcome(lambda q, k, rule: fused_log_sum_exp(q, k.repeat(3, 1, 1), rule), [q, keys], rule)
    torch.testing.assert_close(found.rows, copies.rows)
    torch.testing.assert_close(found.gradients, copies.gradients)


def test_operands_need_not_be_contiguous() -> None:
    wide = draw(1, 8, 20)
    found, _ = fused_log_sum_exp(wide.mT, None, rules.NotSelf())
    torch.testing.assert_close(found, fused_log_sum_exp(wide.mT.contiguous(), None, rules.NotSelf())[0])


@pytest.mark.parametrize("rule", [rules.NotSelf(), rules.OnlySame(IDS[:19])], ids=["not self", "only same"])
def test_logits_of_ten_thousand(rule: Rule) -> None:
    x = (draw(1, 19, 8).detach() * 40).requires_grad_()
    assert (x @ x.mT).abs().amax() > 1e4
    found = expect_equal([x], rule, columns=False, tolerance=1e-3)
    assert found.rows.isfinite().any()


def test_no_fixed_shift_underflows() -> None:
    """Orthonormal rows at temperature 0.005: minus 1/temperature would leave nothing."""
    x = (torch.eye(16)[None] * 200**0.5).to(DEVICE)
    found, _ = fused_log_sum_exp(x, None, rules.NotSelf())
    torch.testing.assert_close(found, torch.full_like(found, 15.0).log())


def test_empty_rows_are_minus_infinity_and_have_no_gradient() -> None:
    a, k = draw(1, 5, 4), draw(1, 3, 4, seed=1)
    rule = rules.OnlySame(torch.tensor([0, 1, 2, 0, 3]), torch.tensor([0, 0, 1]))
    found = expect_equal([a, k], rule, columns=True)
    assert found.rows.isinf().tolist() == [[False, False, True, False, True]]
    assert (found.gradients[0][0, [2, 4]] == 0).all()


def test_same_bits_twice() -> None:
    inputs = [draw(2, 35, 21), draw(2, 40, 21, seed=1)]
    first, second = (outcome(fused_log_sum_exp, inputs, rules.NotSelf(), columns=True) for _ in range(2))
    assert torch.equal(first.rows, second.rows)
    assert all(map(torch.equal, first.gradients, second.gradients))


def test_few_rows_split_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_processors", lambda device: 100)
    assert Blocks.choose(8, "tf32x3").num_splits(3, 65, 100) > 2
    rule = rules.OnlySame(torch.tensor([0, 7, 1]), torch.arange(65) // 33)  # row 1 is empty, 0 and 2 in parts
    expect_equal([draw(1, 3, 8), draw(1, 65, 8, seed=1)], rule, columns=True)


@pytest.mark.parametrize(
    ("num_rows", "num_keys", "splits"),
    [(64 * 132 * 4, 10**6, 1), (10**6, 10**6, 1), (256, 65536, 132), (1, 33, 2), (1, 1, 1)],
)
def test_number_of_splits(num_rows: int, num_keys: int, splits: int) -> None:
    assert Blocks(64, 32, 32, 128, 8).num_splits(num_rows, num_keys, 132) == splits


def test_keys_and_rows_of_several_processes() -> None:
    rows = torch.arange(12, 19, device=DEVICE)
    a, k = draw(1, 7, 4), draw(1, 30, 4, seed=1)
    rule = rules.NotSelf() & rules.NotBand(1) & rules.NotSame(IDS[:30])
    order = Order(rows=rows)
    found = fused_log_sum_exp(a, k, rule, columns=True, order=order)
    exact = dense_log_sum_exp(a, k, rule, columns=True, order=order)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("which", ["q", "k"])
def test_what_needs_no_gradient_costs_none(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = fused._gradient

    def counted(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(fused, "_gradient", counted)
    a, k = draw(1, 7, 4).detach(), draw(1, 9, 4, seed=1).detach()
    wanted = (a if which == "q" else k).requires_grad_()
    lse, _ = fused_log_sum_exp(a, k, rules.All())
    (gradient,) = torch.autograd.grad(lse.sum(), [wanted])
    exact, _ = dense_log_sum_exp(a, k, rules.All(), columns=False, order=Order())
    torch.testing.assert_close(gradient, torch.autograd.grad(exact.sum(), [wanted])[0])
    assert len(calls) == 1


def test_second_derivative_is_an_error() -> None:
    a = draw(1, 5, 4)
    lse, _ = fused_log_sum_exp(a, None, rules.NotSelf())
    (gradient,) = torch.autograd.grad(lse.sum(), [a], create_graph=True)
    with pytest.raises(RuntimeError, match="dense backend has second derivatives"):
        gradient.square().sum().backward()


OPTIONS: dict[str, dict[str, object]] = {
    "nt-xent": {"positives": ("paired", 10)},
    "decoupled": {"positives": ("paired", 10), "include_positive": False},
    "supcon": {"positives": IDS[:20], "denominator": rules.NotSame(IDS[20:40])},
    "clip": {"symmetric": True, "denominator": rules.NotSame(IDS[:20])},
    "distance": {"similarity": "neg_sqdist", "positives": ("next", 1)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_contrast(name: str) -> None:
    q = draw(20, 6)
    k = draw(20, 6, seed=1) if name in ("clip", "distance") else None
    inputs = [q] if k is None else [q, k]
    found, exact = (
        (*torch.autograd.grad(loss, inputs), loss.detach())
        for loss in (contrast(q, k, backend=b, **OPTIONS[name]) for b in ("triton", "dense"))  # type: ignore[call-overload]
    )
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-6)


class _Stricter(rules.NotSelf):
    """A rule of somebody else that answers otherwise."""

    def keep(self, block: Block) -> Tensor | bool:
        return super().keep(block) & (block.key_index > 3)


PAIRS = resolve(Pairs(torch.arange(3), torch.arange(3)), torch.Size(), 6, 6, itself=False)[0].rule
UNSUPPORTED: dict[str, Rule] = {
    "mask": rules.Mask(torch.ones(6, 6, dtype=torch.bool)),
    "function": rules.Callable(lambda i, j: i != j),
    "weights": rules.NotSelf() & rules.LogWeight(lambda i, j: (i - j).float()),
    "pairs": Or(rules.All(), PAIRS),
    "subclass": _Stricter(),
    "two bands": rules.NotBand(1) & rules.NotBand(2),
    "five": rules.NotSelf(1) & rules.NotSelf(2) & rules.NotSelf(3) & rules.NotSelf(4) & rules.NotSelf(5),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_rules_fall_back(name: str) -> None:
    rule, a = UNSUPPORTED[name], draw(1, 6, 4)
    assert not supports(rule)
    kind = type(rule).__name__.strip("_")
    with pytest.raises(ValueError, match=rf"backend: 'triton' .*no form of the rule {kind}"):
        log_sum_exp(a, None, rule, backend="triton")
    with pytest.raises(ValueError, match="no form of the rule"):
        fused_log_sum_exp(a, None, rule)


@pytest.mark.parametrize("name", CASES)
def test_truth_tables_say_what_rules_say(name: str) -> None:
    num_rows, num_keys, build = CASES[name]
    rule, table = build(), TruthTable.of(build())
    assert table is not None
    shuffled = torch.randperm(num_rows, generator=torch.Generator().manual_seed(0))
    for rows in (None, shuffled):
        keys = rows if num_keys is None else None
        block = Block(range(num_rows), range(num_keys or num_rows), torch.device("cpu"), None, rows, keys)
        expected = torch.as_tensor(rule.keep(block)).expand(num_rows, num_keys or num_rows)
        found = keep_of(Pairing(*table.numbers(block), table, "ieee"))
        assert torch.equal(found.expand(1, *expected.shape)[0], expected)


def test_conditions_asked_twice_are_one() -> None:
    positives = SameLabel(IDS, IDS, True)
    rule = with_positives(rules.NotSelf() & rules.NotSame(IDS), positives, include=True, itself=True)
    table = TruthTable.of(rule)
    assert table is not None
    assert len(table.conditions) == 3  # the row itself, equal ids, equal labels that are not negative


def test_positions_are_compared_in_32_bits() -> None:
    block = Block(range(5), range(5), torch.device("cpu"))
    for rule, dtype in ((rules.NotBand(1), torch.int32), (rules.NotSame(IDS[:5]), torch.int64)):
        table = TruthTable.of(rule)
        assert table is not None
        assert {x.dtype for x in table.numbers(block)} == {dtype}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    a = draw(1, 6, 4).detach()

    def expect(words: str, x: Tensor = a) -> None:
        with pytest.raises(ValueError, match=f"backend: 'triton' cannot be used, .*{words}"):
            log_sum_exp(x, None, rules.NotSelf(), backend="triton")

    expect("float32, got torch.float64", a.double())
    with monkeypatch.context() as patch:
        patch.setattr(parity, "installed", lambda module: False)
        expect("needs triton, which is not installed: pip install triton")
    with monkeypatch.context() as patch:
        patch.setenv("NEARFAR_TRITON", "0")
        expect("NEARFAR_TRITON=0")
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "0")
        expect("CUDA device, got cpu")


def test_double_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="float32, got torch.float64"):
        fused_log_sum_exp(draw(1, 6, 4).double(), None, rules.NotSelf())


def test_check_passes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert obstacle(draw(1, 6, 20), rules.NotSelf()) is None


def wrong(*arguments: object, **options: object) -> tuple[Tensor, Tensor | None]:
    rows, columns = fused_log_sum_exp(*arguments, **options)  # type: ignore[arg-type]
    return rows + 0.01 * rows.detach(), columns


def wrong_gradient(*arguments: object, **options: object) -> tuple[Tensor, Tensor | None]:
    rows, columns = fused_log_sum_exp(*arguments, **options)  # type: ignore[arg-type]
    return 1.01 * rows - 0.01 * rows.detach(), columns


def not_a_number(*arguments: object, **options: object) -> tuple[Tensor, Tensor | None]:
    rows, columns = fused_log_sum_exp(*arguments, **options)  # type: ignore[arg-type]
    return rows * torch.nan, columns


def uncompilable(*arguments: object, **options: object) -> tuple[Tensor, Tensor | None]:
    raise RuntimeError("out of resource: shared memory\nmore lines")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (wrong, "1.0e-02 in the loss"),
        (wrong_gradient, "in the gradient"),
        (not_a_number, "nan in the loss"),
        (uncompilable, r"RuntimeError: out of resource: shared memory\)"),
    ],
)
def test_kernels_that_are_wrong_are_not_used(
    broken: Callable[..., object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "fused_log_sum_exp", broken)
    size = int(DENSE_LOGITS**0.5) + 1
    a = draw(1, size, 4)
    with pytest.warns(RuntimeWarning, match=f"{words}.*NEARFAR_TRITON=0"):
        found, _ = log_sum_exp(a, None, rules.NotSelf())
    exact, _ = dense_log_sum_exp(a, a, rules.NotSelf(), columns=False, order=Order())
    torch.testing.assert_close(found, exact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # warned once
        log_sum_exp(a, None, rules.NotSelf())
    with pytest.raises(ValueError, match="its check on .* failed"):
        log_sum_exp(a, None, rules.NotSelf(), backend="triton")


def test_auto_chooses_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Rule] = []

    def spy(a: Tensor, k: Tensor | None, rule: Rule, **options: object) -> tuple[Tensor, None]:
        used.append(rule)
        return a.sum(-1), None

    monkeypatch.setattr("nearfar.objectives.fused.fused_log_sum_exp", spy)
    monkeypatch.setattr(parity, "failure", lambda *of: None)
    size = int(DENSE_LOGITS**0.5) + 1
    large, small = draw(1, size, 2).detach(), draw(1, 6, 2).detach()
    for x, backend, expected in (
        (large, "auto", 1),
        (small, "auto", 0),
        (small, "triton", 1),
        (large, "tiled", 0),
    ):
        used.clear()
        log_sum_exp(x, None, rules.NotSelf(), backend=backend)  # type: ignore[arg-type]
        assert len(used) == expected
    used.clear()
    log_sum_exp(draw(1, size, WIDEST_FUSED + 1).detach(), None, rules.NotSelf())
    log_sum_exp(large, None, rules.Callable(lambda i, j: i != j))
    monkeypatch.setenv("NEARFAR_TRITON", "0")
    log_sum_exp(large, None, rules.NotSelf())
    assert not used


@pytest.mark.parametrize(("chosen", "expected"), [("ieee", "tf32x3"), ("none", "tf32x3"), ("tf32", "tf32")])
def test_precision_follows_the_users(chosen: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings:
        fp32_precision = chosen

    monkeypatch.setattr(torch.backends.cuda, "matmul", Settings())
    assert fused.precision(torch.device("cpu")) == expected


def run_again(environment: dict[str, str]) -> None:
    """This file in a new interpreter with the real kernels."""
    repository = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__]
    done = subprocess.run(
        command,
        cwd=repository,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@outside_only
def test_in_the_interpreter() -> None:
    if not installed("triton"):
        pytest.skip("Triton is not installed; its interpreter runs the kernels on a CPU")
    run_again({"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"})


# Without a device a compiler is all there is: it knows shared memory and registers, and rejects what is no Triton.
COMPILE = """
import json, sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from nearfar.objectives import fused_kernels
from nearfar.objectives.fused import Blocks

found = []
for width, precision in ((64, "tf32x3"), (128, "tf32x3"), (128, "tf32"), (256, "tf32")):
    blocks = Blocks.choose(width, precision)
    values = dict(BY_ROW=True, BY_KEY=True, TRUTH=0x1234, CONDITIONS=4, NEAR=True, ROWS=blocks.rows, KEYS=blocks.keys,
                  CHUNK=blocks.chunk, WHOLE=blocks.chunk >= width, OUT=blocks.out, PRECISION=precision)
    for kernel in (fused_kernels.sums, fused_kernels.gradient):
        pointers = dict.fromkeys(("x", "y", "out", "row_offset", "row_coefficient", "key_offset", "key_coefficient"),
                                 "*fp32") | dict.fromkeys(("row_numbers", "key_numbers"), "*i64")
        names = kernel.arg_names
        signature = {n: "constexpr" if n in values else pointers.get(n, "i32") for n in names}
        constants = {(i,): values[n] for i, n in enumerate(names) if n in values}
        options = dict(num_warps=blocks.warps, num_stages=blocks.stages, enable_fp_fusion=True)
        made = compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)
        found.append((len(made.asm["cubin"]), made.metadata.shared))
print(json.dumps(found))
"""


@outside_only
def test_kernels_compile_without_a_device(tmp_path: Path) -> None:
    if not installed("triton"):
        pytest.skip("Triton is not installed; it brings the compiler")
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    roots = [str(Path(__file__).parents[2] / root) for root in ("common", "domains", "pipelines")]
    path = os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=kept | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert len(sizes) == 8
    assert min(code for code, _ in sizes) > 5000  # not compiled to nothing
    assert max(shared for _, shared in sizes) <= 99 * 1024


@outside_only
@pytest.mark.gpu
def test_on_a_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    # The fixture has told this process to interpret.
    run_again({"NEARFAR_TEST_DEVICE": "cuda", "TRITON_INTERPRET": "0"})


def chunked_double(x: Tensor, k: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """Log-sum-exp in float64, some rows at a time; ``keep`` takes the positions of rows."""
    parts = []
    for index in torch.arange(x.shape[1], device=x.device).split(1000):
        logits = x[:, index].double() @ k.double().mT
        parts.append(logits.masked_fill(~keep(index), -torch.inf).logsumexp(-1))
    return torch.cat(parts, -1)


@pytest.mark.gpu
@pytest.mark.parametrize("itself", [True, False])
def test_twenty_thousand_rows(itself: bool) -> None:
    if DEVICE != "cuda":
        pytest.skip("runs in the process of test_on_a_device")
    x, y = (
        (
            torch.nn.functional.normalize(draw(1, 20_000, 128, seed=s).detach(), dim=-1) * 10**0.5
        ).requires_grad_()
        for s in (0, 1)
    )
    inputs = [x] if itself else [x, y]
    found, by_key = fused_log_sum_exp(x, None if itself else y, rules.NotSelf(), columns=not itself)
    ours = torch.autograd.grad(found.mean() + (0 if by_key is None else by_key.mean()), inputs)
    positions = torch.arange(20_000, device=DEVICE)
    for index, ours_of in zip(range(len(inputs)), ours, strict=True):
        a, b = (inputs[index], inputs[-1 - index])
        exact = chunked_double(a.detach(), b.detach(), lambda rows: rows[:, None] != positions)
        torch.testing.assert_close(
            found if index == 0 else by_key, exact, rtol=1e-5, atol=1e-5, check_dtype=False
        )
        expected = torch.zeros(1, 20_000, 128, dtype=torch.float64, device=DEVICE)
        other = chunked_double(b.detach(), a.detach(), lambda rows: rows[:, None] != positions)
        for rows in positions.split(1000):
            logits = a[:, rows].detach().double() @ b.detach().double().mT
            weights = torch.exp(logits - exact[:, rows, None]) + torch.exp(logits - other[:, None])
            weights = weights.masked_fill(rows[:, None] == positions, 0)
            expected[:, rows] = weights @ b.detach().double() / 20_000
        scale = expected.abs().amax()
        torch.testing.assert_close(ours_of.double() / scale, expected / scale, rtol=0, atol=1e-4)
