"""Stage one: losses against their formulas, the queue, the key encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.calibration.rcal.config import PretrainConfig
from nearfar.calibration.rcal.method import RCAL
from nearfar.calibration.rcal.pretraining import Pretraining
from nearfar.objectives.ranks import Ranks
from nearfar.runtime import generator, initial_weights
from nearfar.training import StepContext
from nearfar.training.step import train_step

TAU, MOMENTUM, QUEUE = 0.3, 0.8, 20
ALONE = Ranks.sharing(None, 8)


def stage(kind: str, encoder: nn.Module, *, double: bool = True) -> Pretraining:
    """Stage one of an encoder with five outputs."""
    config = PretrainConfig.model_validate(
        {"kind": kind, "temperature": TAU, "dim": 4, "queue": QUEUE, "momentum": MOMENTUM}
    )
    with initial_weights(1):
        made = Pretraining(encoder, 5, config)
    return made.double() if double else made


def views(step: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    """Two views of features, close to each other."""
    rng = generator(0, "views", step)
    x = torch.randn(size, 4, generator=rng, dtype=torch.float64)
    return x + 0.1 * torch.randn(size, 4, generator=rng, dtype=torch.float64), x


def unit(z: Tensor) -> Tensor:
    return F.normalize(z, dim=1)


def equal(a: nn.Module, b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.state_dict().items())


def test_moco_is_the_cross_entropy_of_the_positive_and_the_queue(normed: Callable[..., nn.Module]) -> None:
    """[l_pos, l_neg] / tau with label 0, row by row."""
    encoder = normed().double()
    made = stage("moco", encoder).train()
    assert made.queue is not None
    assert made.target is not None
    made.queue.enqueue(unit(torch.randn(13, 4, generator=generator(0, "queue"), dtype=torch.float64)))
    first, second = views()
    found = made.loss(encoder, first, second, ALONE)
    queries, keys = unit(made.projector(encoder(first))), unit(made.target(second))
    queued = list(made.queue.keys)
    assert len(queued) == 13
    total = torch.zeros((), dtype=torch.float64)
    for row in range(8):
        logits = torch.stack([queries[row] @ keys[row], *(queries[row] @ key for key in queued)]) / TAU
        total = total + F.cross_entropy(logits[None], torch.tensor([0]))
    torch.testing.assert_close(found, total / 8, rtol=1e-6, atol=1e-9)


def test_the_first_batch_differs_from_itself(normed: Callable[..., nn.Module]) -> None:
    """Nothing is queued yet: negatives are the keys of the other rows."""
    encoder = normed().double()
    made = stage("moco", encoder).train()
    assert made.target is not None
    first, second = views()
    found = made.loss(encoder, first, second, ALONE)
    logits = unit(made.projector(encoder(first))) @ unit(made.target(second)).T / TAU
    torch.testing.assert_close(found, F.cross_entropy(logits, torch.arange(8)), rtol=1e-6, atol=1e-9)


def test_simclr_by_a_loop(normed: Callable[..., nn.Module]) -> None:
    """Each of 2B views picks its other view among 2B - 1."""
    encoder = normed().double()
    made = stage("simclr", encoder).train()
    assert made.target is None
    assert made.queue is None
    first, second = views()
    found = made.loss(encoder, first, second, ALONE)
    z = unit(torch.cat([made.projector(encoder(view)) for view in (first, second)]))
    total = torch.zeros((), dtype=torch.float64)
    for row in range(16):
        others = [other for other in range(16) if other != row]
        logits = torch.stack([z[row] @ z[other] for other in others]) / TAU
        total = total + F.cross_entropy(logits[None], torch.tensor([others.index((row + 8) % 16)]))
    torch.testing.assert_close(found, total / 16, rtol=1e-6, atol=1e-9)
    before = copy.deepcopy(made.state_dict())
    made.after_step(encoder)
    assert equal(made, before)


def test_keys_leave_in_the_order_they_came(normed: Callable[..., nn.Module]) -> None:
    """The queue holds the last 20 keys of the key encoder as it was at each step."""
    encoder: Any = normed().double()
    made = stage("moco", encoder).train()
    assert made.queue is not None
    assert made.target is not None
    given: list[Tensor] = []
    for step in range(5):
        first, second = views(step)
        given += list(unit(made.target(second)))
        made.loss(encoder, first, second, ALONE)
        length = len(made.queue)
        made.after_step(encoder)
        assert length == min(8 * step, QUEUE)
        kept = sorted(key.tolist() for key in given[-QUEUE:])
        assert sorted(key.tolist() for key in made.queue.keys) == kept
        with torch.no_grad():
            encoder[0].weight.mul_(1.01)  # so that keys of one step are not those of another
    # Slots are a ring: 40 keys in 20 slots have gone round twice.
    torch.testing.assert_close(made.queue.keys, torch.stack(given[-QUEUE:]))


def test_a_step_is_queued_once(normed: Callable[..., nn.Module]) -> None:
    """after_step without a loss before it does nothing."""
    encoder = normed().double()
    made = stage("moco", encoder).train()
    made.loss(encoder, *views(), ALONE)
    made.after_step(encoder)
    before = copy.deepcopy(made.state_dict())
    made.after_step(encoder)
    assert equal(made, before)


def test_the_key_encoder_follows_by_the_formula(normed: Callable[..., nn.Module]) -> None:
    """m * old + (1 - m) * new for weights; running statistics are taken over."""
    encoder = normed().double()
    made = stage("moco", encoder).train()
    assert made.target is not None
    mine = nn.Sequential(encoder, made.projector)
    old = copy.deepcopy(made.target.module.state_dict())
    made.loss(encoder, *views(), ALONE)
    with torch.no_grad():
        for number, parameter in enumerate(mine.parameters()):
            parameter.add_(0.1 * number + 1)
    made.after_step(encoder)
    names = {name for name, _ in mine.named_parameters()}
    for name, new in mine.state_dict().items():
        expected = MOMENTUM * old[name] + (1 - MOMENTUM) * new if name in names else new
        torch.testing.assert_close(made.target.module.state_dict()[name], expected)
    assert any(
        not torch.equal(old[name], new) for name, new in mine.state_dict().items() if name not in names
    )


def test_no_gradient_goes_into_keys(normed: Callable[..., nn.Module]) -> None:
    """Neither the key encoder nor the queue; the encoder and the projector get theirs."""
    encoder = normed().double()
    made = stage("moco", encoder).train()
    assert made.target is not None
    assert made.queue is not None
    made.queue.enqueue(unit(torch.randn(13, 4, generator=generator(0, "queue"), dtype=torch.float64)))
    first, second = (view.requires_grad_() for view in views())
    made.loss(encoder, first, second, ALONE).backward()
    assert all(not p.requires_grad and p.grad is None for p in made.target.parameters())
    assert second.grad is None
    assert not made.queue.slots.requires_grad
    assert all(p.grad is not None for p in (*encoder.parameters(), *made.projector.parameters()))


def test_keys_are_made_in_evaluation_mode(normed: Callable[..., nn.Module]) -> None:
    """Whatever mode the method is put in: a row's key does not depend on its batch."""
    encoder = normed().double()
    made = stage("moco", encoder)
    assert made.target is not None
    for mode in (True, False, True):
        made.train(mode)
        assert made.projector.training is mode
        assert not any(part.training for part in made.target.modules())
    _, second = views()
    before = copy.deepcopy(made.target.state_dict())
    together = made.target(second)
    torch.testing.assert_close(torch.cat([made.target(row[None]) for row in second]), together)
    assert equal(made.target, before)


@pytest.mark.parametrize("kind", ["moco", "simclr"])
def test_a_step_of_the_method(
    settings: Callable[..., Any],
    build: Callable[..., RCAL],
    context: Callable[..., StepContext],
    batch_of: Callable[..., Any],
    kind: str,
) -> None:
    """It moves encoder and projector, leaves the head, and its views are draws of the step."""
    config = settings(pretrain={"kind": kind})
    method = build(config)
    assert method.pretraining is not None
    before = copy.deepcopy(method.state_dict())
    batch, ctx = batch_of(method), context(0)
    terms = train_step(method, method.optimizers(config.optim), batch, ctx, None)
    after = method.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"encoder.0.weight", "pretraining.projector.layers.0.weight", "encoder.1.running_mean"} <= moved
    assert not any(name.startswith(("head", "anchor", "kept", "calibrated")) for name in moved)
    assert any(name.startswith("pretraining.target") for name in moved) == (kind == "moco")
    if method.pretraining.target is not None:
        assert not any(part.training for part in method.pretraining.target.modules())
    again = build(config)
    expected = again.train().pretraining.loss(  # type: ignore[union-attr]
        again.encoder, *again.inputs.two_views(batch.x, ctx.rng("views")), ALONE
    )
    assert torch.equal(terms["train/contrast"], expected.detach())


def test_there_is_no_stage_one_without_epochs(
    settings: Callable[..., Any], build: Callable[..., RCAL]
) -> None:
    """Nor its weights, nor its optimiser."""
    config = settings(pretrain={"epochs": 0})
    method = build(config)
    assert method.pretraining is None
    assert method.pretraining_steps == 0
    assert set(method.optimizers(config.optim)) == {"real", "synthetic"}
