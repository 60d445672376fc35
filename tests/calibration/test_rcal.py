"""The method: both steps of stage two by hand, schedules, momentum, runs that repeat and runs that go on."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.adapters import FeatureInputs, ImageInputs, representations
from nearfar.calibration.rcal.batches import StageBatches
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.loss import Mixture
from nearfar.calibration.rcal.method import RCAL
from nearfar.classification.row_batches import RowBatch
from nearfar.encoders import SmallCNN
from nearfar.errors import ConfigError, PreemptedError
from nearfar.runtime import Runtime, generator, initial_weights
from nearfar.training import CheckpointStore, FitResult, StepContext, fit
from nearfar.training.optim import set_learning_rates
from nearfar.training.step import train_step

Make = Callable[..., Any]


class Unmixable(FeatureInputs):
    """Rows that cannot be mixed, like graphs."""

    def mix(self, batch: Any, order: Tensor, share: Tensor) -> None:  # type: ignore[override]
        """Nothing."""


class Scaled(FeatureInputs):
    """Rows that a weak change doubles or not, at random."""

    def weak(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Rows times 1 or 2."""
        return batch * (1 + torch.randint(0, 2, (len(batch), 1), generator=generator))


def smooth(seed: int = 3) -> nn.Module:
    """An encoder of four features whose rows do not see each other."""
    with initial_weights(seed):
        return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 5))


def stopper(step: int) -> Callable[[], str | None]:
    """Asks for an end after so many steps."""
    left = iter(range(step - 1, -1, -1))
    return lambda: None if next(left, 0) else "a test"


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def ready(method: RCAL) -> RCAL:
    """In double precision, calibrated, its encoder moved away from where it was then."""
    method = method.double()
    assert isinstance(method.inputs, FeatureInputs)
    method.inputs.features = method.inputs.features.double()
    method.calibrate()
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(0, "moved")).double())
    return method.train()


# The step on real rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "balanced_softmax"])
@pytest.mark.parametrize("real_rows", ["all", "kept"])
@pytest.mark.parametrize(
    ("mixup", "reg_on", "beta", "mixable"),
    [
        (1.0, "plain", 0.3, True),
        (0.4, "mixed", 2.0, True),
        (0.0, "plain", 0.3, True),
        (1.0, "plain", 0.0, True),
        (1.0, "plain", 0.3, False),
    ],
    ids=["mixed inputs", "drift of mixtures", "no mixup", "no drift", "mixed representations"],
)
def test_a_real_step_by_a_loop_over_rows(
    settings: Make,
    build: Make,
    blobs: Make,
    context: Make,
    batch_of: Make,
    *,
    loss: str,
    real_rows: str,
    mixup: float,
    reg_on: str,
    beta: float,
    mixable: bool,
) -> None:
    """Loss and terms in double precision, from the formula in the module and the draws of the step."""
    config = settings(loss=loss, real_rows=real_rows, mixup=mixup, reg_on=reg_on, beta=beta)
    x, _ = blobs()
    inputs = (Scaled if mixable else Unmixable)(x)
    method = ready(build(config, smooth(), inputs))
    batch, ctx = batch_of(method), context(17)
    found = method.step(batch, ctx)

    rows, size = batch.rows.tolist(), len(batch.rows)
    weak = inputs.weak(batch.x, ctx.rng("augment"))
    one = Mixture.draw(torch.zeros(size, 1).double(), mixup, ctx.rng("mixup"))
    share, order = float(one.share), one.order.tolist()
    counts = [int((method.given == k).sum()) for k in range(3)]
    assert not bool(method.kept[batch.rows].all()), "a row that is not kept should be in the batch"

    def z(row: Tensor) -> Tensor:
        found: Tensor = method.encoder(row[None])[0].detach()
        return found

    entropy = mass = distance = 0.0
    for i, j in enumerate(order):
        target = [0.0, 0.0, 0.0]
        for place, part in ((i, share), (j, 1 - share)):
            trusted = real_rows == "all" or bool(method.kept[rows[place]])
            target[int(batch.given[place])] += part * trusted
        if mixable:
            behind = z(share * weak[i] + (1 - share) * weak[j])
        else:
            behind = share * z(weak[i]) + (1 - share) * z(weak[j])
        logits = method.head(behind[None])[0].tolist()
        odds = [math.exp(v) * (counts[k] if loss == "balanced_softmax" else 1) for k, v in enumerate(logits)]
        entropy -= sum(t * math.log(odds[k] / sum(odds)) for k, t in enumerate(target))
        mass += sum(target)
        here, there = z(weak[i]), method.anchor[rows[i]]
        if reg_on == "mixed" and mixup and mixable:
            here, there = behind, share * there + (1 - share) * method.anchor[rows[j]]
        distance += float((here - there).square().sum())
    expected = entropy / (size if real_rows == "all" else max(mass, 1.0))
    assert found.terms["cross_entropy"].item() == pytest.approx(expected, rel=1e-6)
    assert found.loss.item() == pytest.approx(expected + beta * distance / size, rel=1e-6)
    if beta:
        assert found.terms["regularizer"].item() == pytest.approx(distance / size, rel=1e-6)
    else:
        assert set(found.terms) == {"cross_entropy"}


def test_a_batch_of_suspects_alone_is_no_division_by_zero(
    settings: Make, build: Make, context: Make, batch_of: Make
) -> None:
    """There is nothing to learn from it."""
    method = ready(build(settings(real_rows="kept", beta=0.0)))
    suspects = (~method.kept).nonzero()[:, 0].tolist()
    assert suspects
    found = method.step(batch_of(method, suspects), context())
    assert found.loss.item() == 0
    found.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


@pytest.mark.parametrize("reg_on", ["plain", "mixed"])
def test_the_gradient_of_the_regulariser(
    settings: Make, build: Make, context: Make, batch_of: Make, reg_on: str
) -> None:
    """2 beta (f - z0) / B at every representation; the kept ones of stage one get none and stay."""
    method = ready(build(settings(beta=0.7, reg_on=reg_on)))
    assert isinstance(method.head, nn.Linear)
    nn.init.zeros_(method.head.weight)  # the classifier pulls at nothing
    passed: list[Tensor] = []

    def keep(_: nn.Module, __: Any, z: Tensor) -> None:
        z.retain_grad()
        passed.append(z)

    method.encoder.register_forward_hook(keep)
    batch, ctx = batch_of(method), context(3)
    before = method.anchor.clone()
    method.step(batch, ctx).loss.backward()
    (z,) = passed  # one pass, so that batch normalisation sees all of it
    assert z.grad is not None
    anchor = method.anchor[batch.rows]
    if reg_on == "mixed":
        anchor = Mixture.draw(torch.zeros(8, 1).double(), 1.0, ctx.rng("mixup")).of(anchor)
    torch.testing.assert_close(z.grad[:8], 2 * 0.7 * (z.detach()[:8] - anchor) / 8)
    assert not z.grad[8:].any()
    assert len(z) == (16 if reg_on == "plain" else 8)
    assert not method.anchor.requires_grad
    assert method.anchor.grad is None
    assert torch.equal(method.anchor, before)


def run(method: RCAL, config: RCALConfig, runtime: Runtime, **options: Any) -> FitResult:
    """Train to the end."""
    source = StageBatches(method.inputs, method.given, config)
    return fit(method, source, config=config, runtime=runtime, quiet=True, **options)


def test_a_high_price_keeps_representations_where_they_are(settings: Make, build: Make, cpu: Runtime) -> None:
    """And none lets them go; the way they go falls as one over the price."""
    drifts = {}
    for beta, lr in ((0.0, 5e-4), (100.0, 5e-4), (10_000.0, 5e-6)):
        config = settings(
            epochs=40,
            head_lr=1e-3,
            milestones=(),
            pretrain={"epochs": 0},
            optim={"lr": lr, "weight_decay": 0.0},
        )
        config = config.model_copy(update={"beta": beta})  # settings end at 100
        method = build(config, smooth())
        run(method, config, cpu)
        moved = representations(method.encoder, method.inputs) - method.anchor
        drifts[beta] = float(moved.norm(dim=1).mean())
    assert drifts[10_000.0] < 1e-3
    assert drifts[100.0] < drifts[0.0] / 20
    assert drifts[10_000.0] < 2 * drifts[100.0] / 100


# The step on draws -----------------------------------------------------------------------------------------------


def test_draws_move_the_head_and_nothing_else(
    settings: Make, build: Make, context: Make, batch_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every parameter and buffer of the encoder is bit-identical, batch normalisation in training mode included."""
    config = settings(pretrain={"epochs": 0})
    method = build(config)
    method.calibrate()
    _, synthetic = method.updates(0)
    monkeypatch.setattr(method, "updates", lambda _: (synthetic,))
    optimizers, before = method.optimizers(config.optim), copy.deepcopy(method.state_dict())
    for step in range(3):
        train_step(method, optimizers, batch_of(method), context(step), None)
    assert method.encoder.training
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert all(p.grad is None for p in method.encoder.parameters())


def test_a_step_on_draws_by_hand(settings: Make, build: Make, context: Make, batch_of: Make) -> None:
    """Cross-entropy of the draws of the step, as many as real rows, of all classes alike and without a prior."""
    config = settings(loss="balanced_softmax", pretrain={"epochs": 0})
    method = ready(build(config))
    assert method.gaussians is not None
    batch, ctx = batch_of(method), context(4)
    found = method.draws_step(batch, ctx)
    rng = ctx.rng("draws")
    classes = torch.multinomial(torch.ones(3), 8, replacement=True, generator=rng)
    drawn = method.gaussians.draw(classes, rng).double()
    torch.testing.assert_close(found.loss, F.cross_entropy(method.head(drawn), classes))
    assert torch.equal(method.draws_step(batch, ctx).loss, found.loss)
    assert not torch.equal(method.draws_step(batch, context(5)).loss, found.loss)


@pytest.mark.parametrize("draws", ["equal", "fill"])
def test_how_often_a_class_is_drawn(
    settings: Make, build: Make, context: Make, monkeypatch: pytest.MonkeyPatch, draws: str
) -> None:
    """As every other, or as often as it lacks rows; the largest lacks none. By chi-square of 8000 draws."""
    method = build(settings(gaussians={"draws": draws, "outlier": "none"}, pretrain={"epochs": 0}))
    method.calibrate()
    assert method.gaussians is not None
    seen: list[Tensor] = []
    draw = method.gaussians.draw

    def watched(classes: Tensor, rng: torch.Generator) -> Tensor:
        seen.append(classes)
        drawn: Tensor = draw(classes, rng)
        return drawn

    monkeypatch.setattr(method.gaussians, "draw", watched)
    batch = RowBatch(None, torch.zeros(8000, dtype=torch.int64), torch.zeros(8000, dtype=torch.int64))
    method.draws_step(batch, context())
    expected = {"equal": [1 / 3, 1 / 3, 1 / 3], "fill": [0.0, 4 / 12, 8 / 12]}[draws]
    counts = torch.cat(seen).bincount(minlength=3)
    for count, share in zip(counts.tolist(), expected, strict=True):
        assert count == pytest.approx(8000 * share, abs=4.5 * (8000 * share * (1 - share)) ** 0.5)


def test_classes_of_one_row_and_of_none(settings: Make, cpu: Runtime, blobs: Make) -> None:
    """They train: a class without rows is never drawn, one of a row has a Gaussian without a spread."""
    x, y = blobs((12, 8, 1, 3))
    config = settings(gaussians={"outlier": "lof"}, loss="balanced_softmax")
    given = torch.where(y == 3, 4, y)  # class 3 has none
    method = RCAL(config, smooth(), FeatureInputs(x), given, 5)
    run(method, config, cpu)
    assert all(tensor.isfinite().all() for tensor in method.state_dict().values())
    assert method.gaussians is not None
    assert method.gaussians.kept_counts_.tolist()[2:4] == [1, 0]
    assert method.gaussians.means_[3].isnan().all()


# Optimisers and schedules ----------------------------------------------------------------------------------------


def test_schedules(settings: Make, build: Make) -> None:
    """A tenth after each of 20, 40, 60 and 80 epochs of stage two; a cosine in stage one; constant on draws."""
    config = settings(epochs=110, milestones=(20, 40, 60, 80), pretrain={"epochs": 6.5})
    method = build(config)
    first, epoch = method.pretraining_steps, method.epoch
    assert (first, epoch) == (20, 3)
    for step in range(first):
        expected = 0.5 * (1 + math.cos(math.pi * step / first))
        assert method.learning_rate_factor("pretrain", step) == pytest.approx(expected)
        assert [u.optimizer for u in method.updates(step)] == ["pretrain"]
    for step in range(first, 330):
        passed = (step - first) // epoch
        power = 0 if passed < 20 else 1 if passed < 40 else 2 if passed < 60 else 3 if passed < 80 else 4
        assert method.learning_rate_factor("real", step) == pytest.approx(0.1**power)
        assert method.learning_rate_factor("synthetic", step) == 1.0
        assert [u.optimizer for u in method.updates(step)] == ["real", "synthetic"]


def test_rates_of_encoder_and_head(settings: Make, build: Make) -> None:
    """Each has its own peak, and both fall together; the head has another rate on draws."""
    config = settings(milestones=(1, 2), pretrain={"epochs": 1}, optim={"lr": 0.02}, head_lr=0.5)
    method = build(config)
    optimizers = method.optimizers(config.optim)
    assert set(optimizers) == {"pretrain", "real", "synthetic"}
    owners = {id(p): name for name, p in method.named_parameters()}
    for step, factor in ((3, 1.0), (5, 1.0), (6, 0.1), (9, 0.01)):
        set_learning_rates(optimizers, config.optim, step, 15, method.learning_rate_factor)
        rates = {
            (name, owners[id(p)].partition(".")[0]): group["lr"]
            for name in ("real", "synthetic")
            for group in optimizers[name].param_groups
            for p in group["params"]
        }
        assert rates == {
            ("real", "encoder"): pytest.approx(0.02 * factor),
            ("real", "head"): pytest.approx(0.5 * factor),
            ("synthetic", "head"): pytest.approx(0.05),
        }
    (group,) = optimizers["synthetic"].param_groups
    assert group["weight_decay"] == 0
    assert {g["weight_decay"] for g in optimizers["real"].param_groups} == {1e-3}


def test_the_head_has_a_momentum_for_each_optimiser(
    settings: Make, build: Make, context: Make, batch_of: Make
) -> None:
    """After a step each is the gradient of its own loss; neither sees the other's."""
    config = settings(pretrain={"epochs": 0}, optim={"weight_decay": 0.0})
    method = ready(build(config, smooth()))
    optimizers = method.optimizers(config.optim)
    set_learning_rates(optimizers, config.optim, 0, 15, method.learning_rate_factor)
    batch, ctx = batch_of(method), context(0)
    by_hand = copy.deepcopy(method)
    real = torch.autograd.grad(by_hand.step(batch, ctx).loss, list(by_hand.head.parameters()))
    train_step(method, optimizers, batch, ctx, None)
    for number, parameter in enumerate(method.head.parameters()):
        first, second = (
            optimizers[name].state[parameter]["momentum_buffer"] for name in ("real", "synthetic")
        )
        assert first.data_ptr() != second.data_ptr()
        torch.testing.assert_close(first, real[number])
        assert not torch.allclose(first, second)
        # Both have moved it, one after the other.
        before = list(by_hand.head.parameters())[number]
        torch.testing.assert_close(parameter, before - 0.1 * first - 0.05 * second)


def test_an_encoder_without_weights_has_no_group(settings: Make, blobs: Make) -> None:
    """Features are representations already: the head alone is trained."""
    x, y = blobs()
    config = settings(pretrain={"epochs": 0})
    method = RCAL(config, nn.Flatten(), FeatureInputs(x), y, 3)
    assert method.head.in_features == 4
    assert [len(g["params"]) for g in method.optimizers(config.optim)["real"].param_groups] == [2]
    plain = settings(pretrain={"epochs": 0}, gaussians={"enabled": False}, beta=0.0)
    alone = RCAL(plain, nn.Flatten(), FeatureInputs(x), y, 3)
    assert set(alone.optimizers(plain.optim)) == {"real"}
    assert alone.anchor.shape == (0, 4)
    assert [u.optimizer for u in alone.updates(0)] == ["real"]


# Calibration -----------------------------------------------------------------------------------------------------


def test_calibration_keeps_what_stage_one_made(settings: Make, build: Make) -> None:
    """Representations of the rows as they are, in evaluation mode, once; mode and statistics are as before."""
    method = build(settings()).train()
    before = copy.deepcopy(method.encoder.state_dict())
    method.calibrate()
    assert method.encoder.training
    assert equal(method.encoder.state_dict(), before)
    assert torch.equal(
        method.anchor, copy.deepcopy(method.encoder).eval()(method.inputs.rows(torch.arange(24)))
    )
    assert bool(method.calibrated)
    assert method.gaussians is not None
    assert torch.equal(method.kept, method.gaussians.inlier_mask_)
    kept, gaussians = method.anchor.clone(), method.gaussians
    with torch.no_grad():
        method.encoder[0].weight.mul_(2)
    method.calibrate()
    assert torch.equal(method.anchor, kept)
    assert method.gaussians is gaussians


def test_nothing_is_kept_that_nobody_asks_for(settings: Make, build: Make) -> None:
    """Plain training has no anchor."""
    method = build(settings(beta=0.0, gaussians={"enabled": False}))
    method.calibrate()
    assert method.anchor.shape == (0, 5)
    assert method.gaussians is None
    assert not method.calibrated


def test_loaded_weights_bring_their_gaussians(settings: Make, build: Make, normed: Make) -> None:
    """Anchor and mask are state; Gaussians are made of them again, those of before are forgotten."""
    first, second = build(settings()), build(settings(), normed(9))
    first.calibrate()
    second.calibrate()
    state = first.state_dict()
    assert {"anchor", "kept", "calibrated"} <= set(state)
    second.load_state_dict(state)
    assert [method.gaussians is None for method in (first, second)] == [False, True]
    second.calibrate()
    assert first.gaussians is not None
    assert second.gaussians is not None
    assert torch.equal(second.gaussians.calibrated_means_, first.gaussians.calibrated_means_)
    assert torch.equal(second.gaussians.donors_, first.gaussians.donors_)
    assert torch.equal(second.kept, first.kept)
    # The mask is read, not found again.
    other = {name: tensor.clone() for name, tensor in state.items()}
    other["kept"][:] = torch.arange(24) % 7 != 0
    second.load_state_dict(other)
    second.calibrate()
    assert torch.equal(second.kept, other["kept"])
    assert int(second.gaussians.kept_counts_.sum()) == int(other["kept"].sum())


def test_one_process_has_all_rows_and_several_refuse_batch_statistics(
    settings: Make, build: Make, cpu: Runtime, batch_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process would normalise by its own part of the batch."""
    method = build(settings()).train()
    monkeypatch.setattr(
        "nearfar.calibration.rcal.method.Ranks.sharing", lambda *_: type("Two", (), {"group": object()})()
    )
    with pytest.raises(ConfigError, match="encoder: its batch normalisation would see a part of the batch"):
        method.step(batch_of(method), StepContext(0, 0, cpu))


# Runs ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_run(settings: Make, build: Make, cpu: Runtime) -> None:
    """Bit by bit, whatever threads load and whatever others have drawn; another seed is another run."""
    states: list[dict[str, Tensor]] = []
    logs: list[list[tuple[int, dict[str, float]]]] = []
    for changes in ({}, {"loader_workers": 3}, {"seed": 6}):
        config = settings(pretrain={"kind": "moco", "epochs": 1.5}, **changes)
        method, points = build(config), list[tuple[int, dict[str, float]]]()

        def log(metrics: Any, step: int, into: Any = points) -> None:
            into.append((step, dict(metrics)))

        before = torch.random.get_rng_state()
        run(method, config, cpu, log=log)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(7)  # somebody else's draws
        states.append(method.state_dict())
        logs.append(points)
    assert len(logs[0]) == 15
    assert equal(states[0], states[1])
    assert logs[0] == logs[1]
    assert not equal(states[0], states[2])


@pytest.mark.parametrize(
    ("kind", "loss", "reg_on"), [("moco", "cross_entropy", "plain"), ("simclr", "balanced_softmax", "mixed")]
)
def test_half_precision(settings: Make, build: Make, cpu: Runtime, kind: str, loss: str, reg_on: str) -> None:
    """``precision=bf16`` runs both stages; weights and what is kept stay float32 and near those of float32."""
    states = []
    for precision in ("float32", "bf16"):
        config = settings(precision=precision, loss=loss, reg_on=reg_on, pretrain={"kind": kind})
        method = build(config, smooth())
        run(method, config, cpu)
        states.append(method.state_dict())
    for name, value in states[1].items():
        assert value.dtype == states[0][name].dtype
        assert bool(value.isfinite().all())
    assert float((states[1]["anchor"] - states[0]["anchor"]).abs().max()) < 0.3


@pytest.mark.parametrize("kind", ["moco", "simclr"])
def test_a_run_that_stops_anywhere_goes_on_as_if_nothing_had_been(
    settings: Make, build: Make, normed: Make, cpu: Runtime, tmp_path: Path, kind: str
) -> None:
    """In both stages and at their border: weights, anchor, mask, queue, momentum and draws."""
    config = settings(pretrain={"kind": kind, "epochs": 1.5}, checkpoint={"every_fraction": 1.0})
    straight = build(config)
    result = run(straight, config, cpu)
    border = straight.pretraining_steps
    assert (border, result.steps) == (4, 15)
    assert straight.gaussians is not None
    for stop_at in (1, 3, border, border + 1, 9, 14):
        store = CheckpointStore(tmp_path / f"{stop_at}")
        with pytest.raises(PreemptedError, match=f"after step {stop_at} of 15"):
            run(build(config), config, cpu, store=store, stop=stopper(stop_at))
        saved = store.load(stop_at).method
        assert bool(saved["calibrated"]) == (stop_at > border)
        assert {"anchor", "kept"} <= set(saved)
        resumed = build(config, normed(9))  # other weights: all comes from the checkpoint
        run(resumed, config, cpu, store=store, resume=True)
        assert equal(resumed.state_dict(), straight.state_dict()), stop_at
        assert resumed.gaussians is not None
        assert torch.equal(resumed.gaussians.calibrated_means_, straight.gaussians.calibrated_means_)
        if stop_at > border:
            assert torch.equal(saved["anchor"], straight.anchor)
            assert torch.equal(saved["kept"], straight.kept)


def test_images_through_both_stages(settings: Make, images: Make, cpu: Runtime) -> None:
    """A convolutional encoder with batch normalisation; all stays finite and training lowers the loss."""
    x, y = images((20, 12, 8))
    config = settings(epochs=12, milestones=(6,), pretrain={"epochs": 4}, optim={"lr": 0.02})
    method = RCAL(
        config, SmallCNN(norm="batch", generator=generator(0, "e")), ImageInputs(x, padding=1), y, 3
    )
    losses: list[float] = []
    run(method, config, cpu, log=lambda m, _: losses.append(m.get("train/cross_entropy", math.nan)))
    told = [value for value in losses if not math.isnan(value)]
    assert sum(told[-5:]) < sum(told[:5])
    assert method.head.in_features == 64
