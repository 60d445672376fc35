"""Cross-entropy without all logits, against PyTorch's over all of them; the sampled one against the full one."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nearfar.objectives import contrast
from nearfar.objectives.linear_cross_entropy import linear_cross_entropy
from nearfar.objectives.sampled_softmax import sampled_softmax

ROWS, CLASSES, DIM = 23, 37, 5


def problem(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    states = (scale * torch.randn(ROWS, DIM, generator=rng, dtype=torch.float64)).to(dtype).requires_grad_()
    weight = torch.randn(CLASSES, DIM, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()
    return states, weight, torch.randint(CLASSES, (ROWS,), generator=rng)


def with_gradients(value: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    return (value.detach(), *torch.autograd.grad(value, of))


@pytest.mark.parametrize("chunk", [1, 4, 23, 64, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equals_the_cross_entropy_of_all_logits(
    chunk: int | None, smoothing: float, reduction: Literal["mean", "sum"]
) -> None:
    states, weight, targets = problem()
    ours = linear_cross_entropy(
        states, weight, targets, label_smoothing=smoothing, reduction=reduction, chunk=chunk
    )
    theirs = F.cross_entropy(states @ weight.T, targets, label_smoothing=smoothing, reduction=reduction)
    for a, b in zip(
        with_gradients(ours, states, weight), with_gradients(theirs, states, weight), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_gradcheck() -> None:
    states, weight, targets = problem()
    assert torch.autograd.gradcheck(
        lambda s, w: 1.7 * linear_cross_entropy(s, w, targets, label_smoothing=0.1, chunk=7), (states, weight)
    )


def test_is_a_contrast_of_states_with_classes() -> None:
    states, weight, targets = problem()
    by_core = contrast(
        states, weight, positives=(targets, torch.arange(CLASSES)), similarity="dot", temperature=1.0
    )
    torch.testing.assert_close(linear_cross_entropy(states, weight, targets), by_core)


def test_float32_is_as_exact_as_pytorchs() -> None:
    states, weight, targets = problem(torch.float32, scale=4.0)
    exact = F.cross_entropy(states.double() @ weight.double().T, targets)
    assert linear_cross_entropy(states, weight, targets).item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_extreme_logits_stay_finite(dtype: torch.dtype, logit: float) -> None:
    states = torch.full((2, 1), logit, dtype=dtype, requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]], dtype=dtype, requires_grad=True)
    targets = torch.tensor([0, 1])
    loss, *gradients = with_gradients(
        linear_cross_entropy(states, weight, targets, reduction="sum"), states, weight
    )
    assert loss.item() == pytest.approx(2e4)
    assert all(torch.isfinite(g).all() for g in gradients)


def test_bfloat16_logits_are_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some per mille of the gradient, where the processor multiplies bfloat16; exact where it does not."""
    rng = torch.Generator().manual_seed(1)
    states = torch.randn(300, 32, generator=rng).requires_grad_()
    weight = (0.3 * torch.randn(500, 32, generator=rng)).requires_grad_()
    targets = torch.randint(500, (300,), generator=rng)
    full = with_gradients(linear_cross_entropy(states, weight, targets), states, weight)
    module = "nearfar.objectives.linear_cross_entropy.multiplies_bfloat16"
    for possible, tolerance in ((False, 0.0), (True, 0.01)):
        monkeypatch.setattr(module, lambda device, possible=possible: possible)
        low = with_gradients(
            linear_cross_entropy(states, weight, targets, logit_dtype="auto"), states, weight
        )
        for a, b in zip(low, full, strict=True):
            assert ((a - b).norm() / b.norm()).item() <= tolerance


def test_only_the_gradients_asked_for() -> None:
    states, weight, targets = problem()
    fixed = weight.detach()
    (grad,) = torch.autograd.grad(linear_cross_entropy(states, fixed, targets), states)
    assert grad.shape == states.shape
    with torch.no_grad():
        assert linear_cross_entropy(states, weight, targets).grad_fn is None


def test_second_derivatives_are_refused() -> None:
    states, weight, targets = problem()
    (grad,) = torch.autograd.grad(linear_cross_entropy(states, weight, targets), states, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives"):
        grad.sum().backward()


def test_no_rows() -> None:
    _, weight, _ = problem()
    empty = torch.zeros(0, DIM, dtype=torch.float64, requires_grad=True)
    loss = linear_cross_entropy(empty, weight, torch.zeros(0, dtype=torch.int64))
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, weight)[0] == 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": torch.full((ROWS,), CLASSES)}, "targets: 0 to 36 expected, got 37"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, r"targets: int64 of shape \(23,\)"),
        ({"targets": torch.zeros(ROWS)}, "targets: int64"),
        ({"weight": torch.zeros(4, 3, dtype=torch.float64)}, "weight"),
        ({"label_smoothing": 1.0}, r"label_smoothing: a number in \[0, 1\) expected, got 1.0"),
        ({"reduction": "none"}, "reduction"),
        ({"logit_dtype": "bf16"}, "logit_dtype"),
        ({"chunk": 0}, "chunk: at least 1 expected, got 0"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    states, weight, targets = problem()
    arguments = {"states": states, "weight": weight, "targets": targets} | changes
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**arguments)


def test_a_sample_of_everything_is_the_full_cross_entropy() -> None:
    states, weight, targets = problem()
    sampled = sampled_softmax(states, weight, targets, torch.arange(CLASSES))
    full = linear_cross_entropy(states, weight, targets)
    for a, b in zip(
        with_gradients(sampled, states, weight), with_gradients(full, states, weight), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_sampled_softmax_is_its_definition() -> None:
    """A slow loop: the target, and every draw that is not the target, weighted by 1 / (K q)."""
    states, weight, targets = problem()
    sample = torch.tensor([4, 9, 9, int(targets[0]), 30])
    log_expected = torch.tensor([-0.5, 0.2, 0.2, -1.0, 0.7], dtype=torch.float64)
    losses = []
    for state, target in zip(states.detach(), targets.tolist(), strict=True):
        right = float(state @ weight[target].detach())
        total = math.exp(right)
        for drawn, correction in zip(sample.tolist(), log_expected.tolist(), strict=True):
            if drawn != target:
                total += math.exp(float(state @ weight[drawn].detach()) - correction)
        losses.append(math.log(total) - right)
    ours = sampled_softmax(states, weight, targets, sample, log_expected, reduction="sum")
    assert ours.item() == pytest.approx(sum(losses), abs=1e-12)


def test_the_corrected_denominator_is_right_on_average() -> None:
    """Also under a draw that is far from even."""
    states, weight, targets = problem()
    q = torch.linspace(1, 9, CLASSES, dtype=torch.float64)
    q /= q.sum()
    rng = torch.Generator().manual_seed(2)
    exact = (states @ weight.T).exp().sum(1).detach()
    estimates = []
    for _ in range(3000):
        sample = torch.multinomial(q, 20, replacement=True, generator=rng)
        each = torch.stack(
            [
                sampled_softmax(s[None], weight, t[None], sample, (20 * q[sample]).log()).detach()
                for s, t in zip(states[:2], targets[:2], strict=True)
            ]
        )
        agreement = torch.linalg.vecdot(states[:2], weight[targets[:2]]).detach()
        estimates.append((each + agreement).exp())
    mean, error = torch.stack(estimates).mean(0), torch.stack(estimates).std(0) / 3000**0.5
    assert ((mean - exact[:2]).abs() < 4 * error).all()


@pytest.mark.parametrize(
    ("sample", "log_expected", "message"),
    [
        (torch.zeros(0, dtype=torch.int64), None, r"sample: shape \(K,\) with K > 0"),
        (torch.arange(3), torch.zeros(2), r"log_expected: shape \(3,\) expected, got \(2,\)"),
    ],
)
def test_bad_samples_are_named(sample: Tensor, log_expected: Tensor | None, message: str) -> None:
    states, weight, targets = problem()
    with pytest.raises(ValueError, match=message):
        sampled_softmax(states, weight, targets, sample, log_expected)
