"""The tiled backend: independent of its tiles, skips what it may, and leaves the process as it found it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.objectives import contrast, gemm, tiles
from nearfar.objectives import denominator as rules
from nearfar.objectives.denominator import Block, Rule
from nearfar.objectives.dense import dense_log_sum_exp
from nearfar.objectives.tiled import tiled_log_sum_exp
from nearfar.objectives.tiles import Order
from nearfar.testing import LargestTensor


def draw(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=rng, dtype=dtype)).requires_grad_()


IDS = torch.randint(4, (17,), generator=torch.Generator().manual_seed(3))
RULES: dict[str, Rule] = {
    "all": rules.All(),
    "not self": rules.NotSelf(),
    "band": rules.NotBand(4),
    "stages": rules.NotSelf() & rules.OnlySame(IDS),
    "false negatives": rules.NotSelf() & rules.NotSame(IDS),
    "nothing": rules.Nothing(),
    "pair weights": rules.LogWeight(lambda i, j: ((i * 7 + j * 7) % 5) / 3.0, is_symmetric=True),
}


@pytest.mark.parametrize("scale", [1.0, 100.0])  # within, and far outside, what needs no shift
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("problems", [1, 3])
def test_any_tile_gives_the_same_sums_and_gradients(rule: str, scale: float, problems: int) -> None:
    a, k = draw(problems, 17, 5, scale=scale), draw(problems, 17, 5, seed=1)
    weights = draw(2, problems, 17, seed=2).detach()

    def scalar(by_row: Tensor, by_key: Tensor | None) -> Tensor:
        """Any function of the sums that are not empty."""
        parts = [weights[0] * by_row.masked_fill(by_row == -torch.inf, 0)]
        if by_key is not None:
            parts.append(weights[1] * by_key.masked_fill(by_key == -torch.inf, 0))
        return torch.stack([part.sum() for part in parts]).sum()

    for other, columns in ((k, False), (k, True), (None, False)):
        inputs = [a] if other is None else [a, k]
        reference = dense_log_sum_exp(
            a, a if other is None else other, RULES[rule], columns=columns, order=Order()
        )
        wanted = torch.autograd.grad(scalar(*reference), inputs)
        for edge in (1, 2, 7, 17, 100):
            got = tiled_log_sum_exp(a, other, RULES[rule], columns=columns, edge=edge)
            for mine, yours in zip(got, reference, strict=True):
                if yours is not None:
                    torch.testing.assert_close(mine, yours, atol=1e-9, rtol=1e-12)
            for mine, yours in zip(torch.autograd.grad(scalar(*got), inputs), wanted, strict=True):
                torch.testing.assert_close(mine, yours, atol=1e-9, rtol=1e-9)


def test_keys_without_gradient_take_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient comes out of the forward pass: equal, and with no tile computed again."""
    a, k = draw(1, 30, 5), draw(1, 50, 5, seed=1)
    for scale in (1.0, 50.0):
        both, _ = tiled_log_sum_exp(a * scale, k, rules.NotBand(2), edge=7)
        (wanted,) = torch.autograd.grad(both.square().sum(), a)
        fixed, _ = tiled_log_sum_exp(a * scale, k.detach(), rules.NotBand(2), edge=7)
        monkeypatch.setattr("nearfar.objectives.crosswise.backward", None)
        (got,) = torch.autograd.grad(fixed.square().sum(), a)
        monkeypatch.undo()
        torch.testing.assert_close(got, wanted)


@dataclass(frozen=True, eq=False)
class Recorder(Rule):
    """Passes a rule's answers on and counts them."""

    rule: Rule
    seen: list[Any] = field(default_factory=list)

    @property
    def symmetric(self) -> bool:
        return self.rule.symmetric

    @property
    def group_ids(self) -> tuple[Tensor, Tensor] | None:
        return self.rule.group_ids

    def keep(self, block: Block) -> Tensor | bool:
        answer = self.rule.keep(block)
        self.seen.append(answer)
        return answer


def test_blocks_of_other_ids_are_skipped_after_sorting() -> None:
    a = draw(1, 64, 4)
    shuffled = torch.arange(64) % 8
    rule = Recorder(rules.OnlySame(shuffled))
    tiled_log_sum_exp(a, None, rule, edge=8)
    # Eight ids of eight rows: after sorting, only the tiles on the diagonal have anything to do.
    assert len(rule.seen) == 36
    assert sum(answer is not False for answer in rule.seen) == 8


@pytest.mark.parametrize("positives", ["paired", ("next", 3)])
def test_positives_do_not_keep_other_blocks_alive(positives: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denominator of one id, and a positive that stays in it: two tiles a row of tiles at most."""
    computed: list[tiles.Tile] = []
    call = tiles.Logits.__call__

    def count(self: tiles.Logits, tile: tiles.Tile, *operands: Tensor) -> Tensor:
        computed.append(tile)
        return call(self, tile, *operands)

    monkeypatch.setattr(tiles.Logits, "__call__", count)
    monkeypatch.setattr(tiles, "CPU_EDGE", 8)
    ids = torch.arange(64).roll(5) % 8
    q, k = draw(64, 4), draw(64, 4, seed=1)
    loss = contrast(q, k, positives=positives, denominator=rules.OnlySame(ids, ids), backend="tiled")
    assert 8 <= len(computed) < 64
    dense = contrast(q, k, positives=positives, denominator=rules.OnlySame(ids, ids), backend="dense")
    assert loss.item() == pytest.approx(dense.item())


def test_class_sums_of_many_problems_stay_small() -> None:
    """Labels that differ between problems: as many class sums as there are classes, not problems times that."""
    q = draw(64, 16, 8, dtype=torch.float32)
    labels = torch.arange(64 * 16).reshape(64, 16) // 2
    with LargestTensor() as largest:
        contrast(q, positives=labels, backend="tiled").backward()
    assert largest.numbers <= 64 * 16 * 16  # the logits of all problems, in one tile


def test_few_tiles_need_a_mask() -> None:
    rule = Recorder(rules.NotSelf())
    tiled_log_sum_exp(draw(1, 64, 4), None, rule, edge=8)
    assert sum(isinstance(answer, Tensor) for answer in rule.seen) == 8  # the diagonal
    assert sum(answer is True for answer in rule.seen) == 28
    rule = Recorder(rules.NotBand(9))
    tiled_log_sum_exp(draw(1, 64, 4), draw(1, 64, 4, seed=1), rule, edge=8)
    assert sum(answer is False for answer in rule.seen) == 8
    assert sum(answer is True for answer in rule.seen) == 8 * 8 - 8 - 2 * 7 - 2 * 6


def test_equal_calls_give_equal_bits() -> None:
    z = draw(900, 32, dtype=torch.float32)
    runs = []
    for _ in range(2):
        loss = contrast(z, positives=("paired", 450), backend="tiled")
        runs.append((loss, *torch.autograd.grad(loss, z)))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])


def test_operands_are_not_touched() -> None:
    a, k = draw(1, 40, 4), draw(1, 40, 4, seed=1)
    before = a.detach().clone(), k.detach().clone()
    by_row, by_key = tiled_log_sum_exp(a, k, rules.NotSelf(), columns=True, edge=7)
    assert by_key is not None
    (by_row.sum() + by_key.sum()).backward()
    assert torch.equal(a, before[0])
    assert torch.equal(k, before[1])


needs_route = pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="this PyTorch cannot route single products"
)


def setting() -> str:
    value: str = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return value


@needs_route
def test_routing_is_on_inside_and_restored_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_probe", lambda tile, width: True)
    like, found = torch.ones(2, 8), setting()
    with gemm.fast_gemm(like, 768) as routed:
        assert routed
        assert setting() == "bf16"
        with gemm.fast_gemm(like, 768):
            pass
        assert setting() == "bf16"  # the inner block does not end the outer one
    assert setting() == found
    with pytest.raises(RuntimeError, match="stop"), gemm.fast_gemm(like, 768):
        raise RuntimeError("stop")
    assert setting() == found


@needs_route
def test_routing_is_restored_when_threads_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_probe", lambda tile, width: True)
    found, inside, leave = setting(), threading.Event(), threading.Event()

    def other() -> None:
        with gemm.fast_gemm(torch.ones(2, 8), 768):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with gemm.fast_gemm(torch.ones(2, 8), 768):
        thread.start()
        assert inside.wait(10)
    assert setting() == "bf16"  # the other thread is still at work
    leave.set()
    thread.join()
    assert setting() == found


@needs_route
@pytest.mark.parametrize("refused", ["double", "environment", "small", "probe"])
def test_routing_is_left_alone_where_it_does_not_apply(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_probe", lambda tile, width: refused != "probe")
    if refused == "environment":
        monkeypatch.setenv("NEARFAR_FAST_GEMM", "0")
    like = torch.ones(2, 8, dtype=torch.float64 if refused == "double" else torch.float32)
    found = setting()
    with gemm.fast_gemm(like, 16 if refused == "small" else 768) as routed:
        assert not routed
        assert setting() == found


@needs_route
def test_the_probe_refuses_a_library_that_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products rounded as bfloat16 would be are far outside the tolerance."""
    exact = torch.bmm

    def rounding(left: Tensor, right: Tensor) -> Tensor:
        if left.dtype == torch.float32 and setting() == "bf16":
            left, right = left.bfloat16().float(), right.bfloat16().float()
        return exact(left, right)

    gemm._probe.cache_clear()
    accurate = gemm._probe(256, 32)
    monkeypatch.setattr(torch, "bmm", rounding)
    gemm._probe.cache_clear()
    assert not gemm._probe(256, 32)
    gemm._probe.cache_clear()
    assert setting() == "none" or setting() != "bf16"
    if not accurate:
        pytest.skip("this processor's oneDNN is not float32-exact, so the routing is off here anyway")


def test_the_routing_changes_nothing_but_the_last_bits() -> None:
    code = (
        "import torch; from nearfar.objectives import contrast\n"
        "z = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()\n"
        "loss = contrast(z, positives=('paired', 1000)); loss.backward()\n"
        "print(loss.item(), z.grad.norm().item())"
    )
    outputs = []
    for flag in ("0", "1"):
        environment = {**os.environ, "NEARFAR_FAST_GEMM": flag}
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append([float(x) for x in run.stdout.split()])
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-6)
