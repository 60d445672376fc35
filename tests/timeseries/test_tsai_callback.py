"""AutoTCL as a callback of tsai.

What needs no tsai is tested here; everything that imports it runs in one subprocess, whose
report the tests read, because importing it costs ten seconds and leaves its mark on the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nearfar.errors import ConfigError
from nearfar.optional import PACKAGES, installed
from nearfar.runtime import generator
from nearfar.timeseries.autotcl.config import AutoTCLConfig
from nearfar.timeseries.autotcl.method import AutoTCL
from nearfar.timeseries.datasets import ClassificationDataset
from nearfar.timeseries.encoder.tsai_encoder import TsaiEncoder
from nearfar.timeseries.tsai import CallbackSettings
from nearfar.timeseries.tsai.frozen import held_fixed
from nearfar.timeseries.tsai.mean_weights import MeanWeights
from nearfar.timeseries.tsai.passed_by import PassedBy
from nearfar.timeseries.tsai.pretext import TERMS, Pretext

ROWS, STEPS, CHANNELS, DIM = 5, 40, 3, 6


def noise(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator(0, "test", len(name)))


def toy() -> Any:
    """A model as tsai's are, with its names."""
    backbone = nn.Sequential(nn.Conv1d(CHANNELS, DIM, 3, padding=1), nn.BatchNorm1d(DIM), nn.ReLU())
    model: Any = nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(DIM, 2)))
    model.head_nf = DIM
    draw = generator(0, "toy")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
    return model


def series() -> Tensor:
    x = noise(ROWS, STEPS, CHANNELS)
    x[0, 3] = torch.nan
    x[1, -9:, 0] = torch.nan
    return x


def state(module: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("variant", ["paper", "paper+", "released"])
def test_steps_are_those_of_the_suites_own_method(variant: str) -> None:
    """Three steps of either, from equal weights, with equal draws."""
    x, settings = series(), CallbackSettings(variant=variant, aug_hidden=8, aug_dim=4, M=2, seed=3)
    pretext = Pretext(model := toy(), CHANNELS, settings)
    labels = torch.arange(ROWS) % 2
    data = ClassificationDataset("toy", "here", x, labels, x, labels, ("a", "b"))
    given: dict[str, Any] = {
        "augmenter": settings.augmenter.model_dump() | {"space": "encoder"},
        "contrast": settings.contrast.model_dump(),
        "encoder": {"dim": 4, "hidden": 4, "depth": 0},
    }
    method: Any = AutoTCL(AutoTCLConfig(data="toy", variant=variant, average=True, seed=3, **given), data)
    method.encoder = TsaiEncoder(toy(), CHANNELS)
    method.averaged = None
    assert method.augmenter is not None
    method.augmenter = pretext.augmenter.__class__(CHANNELS, settings.augmenter)
    method.augmenter.load_state_dict(pretext.augmenter.state_dict())
    theirs = torch.optim.AdamW(method.augmenter.parameters(), lr=settings.lr_aug, weight_decay=0.01)
    moves = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (method.encoder.backbone, model.backbone)]
    for step in range(3):
        ctx: Any = SimpleNamespace(step=step, runtime=SimpleNamespace(group=None, rank=0))
        ctx.rng = lambda name, *c, step=step, device="cpu": generator(3, name, step, *c[: name == "gate"])
        updates = method.updates(step)
        assert len(updates) == (1 if step % 2 else 2)
        if len(updates) == 2:
            method.encoder.requires_grad_(False)
            method.augmenter_step(x, ctx).loss.backward()
            method.encoder.requires_grad_(True)
            theirs.step()
            theirs.zero_grad()
            pretext.train_augmenter(x, step)
        expected = method.step(x, ctx)
        shown = pretext.show(x, step, training=True)
        loss, terms = pretext.loss(model.backbone(shown.inputs.mT).mT, shown)
        assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
        for name in ("align", "uniform"):
            assert terms[name].item() == pytest.approx(expected.terms[name].item(), rel=1e-4)
        for each, optimizer in zip((expected.loss, loss), moves, strict=True):
            optimizer.zero_grad()
            each.backward()
            optimizer.step()
        method.after_step(ctx)
        for a, b in zip(pretext.augmenter.parameters(), method.augmenter.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert pretext.keep_rate.beta.item() == pytest.approx(method.keep_rate.beta.item(), rel=1e-5)
        assert tuple(terms) == TERMS


def test_an_augmenter_step_leaves_the_encoder_as_it_was() -> None:
    model, x = toy(), series()
    pretext = Pretext(model, CHANNELS, CallbackSettings())
    model.backbone[0].bias.requires_grad_(False)
    model.backbone[1].eval()
    before, augmenter = state(model), state(pretext.augmenter)
    told = pretext.train_augmenter(x, 0)
    assert same(before, state(model))
    assert not same(augmenter, state(pretext.augmenter))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [p.requires_grad for p in model.backbone.parameters()] == [True, False, True, True]
    assert [part.training for part in model.backbone] == [True, False, True]
    assert all(term.isfinite() for term in told.values())

    augmenter = state(pretext.augmenter)
    shown = pretext.show(x, 0, training=True)
    pretext.loss(model.backbone(shown.inputs.mT).mT, shown)[0].backward()
    assert same(augmenter, state(pretext.augmenter))
    assert not shown.inputs.requires_grad
    assert model.backbone[0].weight.grad is not None


def test_gradients_pass_through_what_is_held_fixed() -> None:
    layer = nn.Linear(2, 1)
    x = torch.ones(1, 2, requires_grad=True)
    with held_fixed(layer):
        layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.weight.detach())
    assert layer.weight.grad is None
    with pytest.raises(ZeroDivisionError), held_fixed(layer):
        _ = 1 / 0
    assert layer.training
    assert layer.weight.requires_grad


def test_what_the_encoder_is_shown() -> None:
    x = series()
    pretext = Pretext(toy(), CHANNELS, CallbackSettings())
    first, second = (pretext.show(x, number, training=False) for number in (0, 1))
    assert torch.equal(first.inputs, second.inputs), "validation draws nothing"
    missing = x.isnan().any(2)
    assert torch.equal(first.valid, ~torch.cat([missing, missing]))
    assert torch.equal(first.inputs[:ROWS], torch.where(missing[..., None], 0, x))
    # Kept or not, at one gain for all channels.
    view, original = first.inputs[ROWS:], first.inputs[:ROWS]
    gain = (view / original)[~missing]
    torch.testing.assert_close(gain, gain[:, :1].expand_as(gain), rtol=1e-4, atol=1e-5)
    logits = pretext.augmenter(x).logits
    assert first.keep.item() == pytest.approx(pretext.augmenter.gate.keep_probability(logits).mean().item())

    drawn = [pretext.show(x, number, training=True) for number in (0, 0, 1)]
    assert torch.equal(drawn[0].inputs, drawn[1].inputs)
    assert not torch.equal(drawn[0].inputs, drawn[2].inputs)
    hidden = (drawn[0].inputs[:ROWS] == 0).all(2)[~missing].float().mean().item()
    assert 0.3 < hidden < 0.7, "half of the steps, by the binomial mask"
    shown = Pretext(toy(), CHANNELS, CallbackSettings(mask_mode="all_true")).show(x, 0, training=True)
    assert torch.equal(shown.inputs[:ROWS], first.inputs[:ROWS])


def test_a_single_series_is_no_contrast() -> None:
    pretext = Pretext(toy(), CHANNELS, CallbackSettings(alpha=0.0))
    shown = pretext.show(noise(1, STEPS, CHANNELS), 0, training=False)
    loss, terms = pretext.loss(noise(2, STEPS, DIM, name="states"), shown)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(term.isfinite() for term in terms.values())


def test_building_draws_nothing_from_the_default_generator() -> None:
    model, before = toy(), torch.get_rng_state()
    pretext = Pretext(model, CHANNELS, CallbackSettings())
    pretext.train_augmenter(series(), 0)
    pretext.show(series(), 0, training=True)
    assert torch.equal(before, torch.get_rng_state())


def test_a_head_passed_by_keeps_its_names_and_weights() -> None:
    model = toy()
    names, weights = list(model.state_dict()), list(model.parameters())
    head = model.head
    model.head = PassedBy(head)
    assert list(model.state_dict()) == names
    assert all(a is b for a, b in zip(weights, model.parameters(), strict=True))
    x = noise(2, CHANNELS, 8)
    assert torch.equal(model.eval()(x), model.backbone(x))
    model.double().load_state_dict(
        {name: torch.ones(()).expand_as(t) for name, t in model.state_dict().items()}
    )
    assert head.weight.dtype == torch.float64
    assert head.weight.eq(1).all()


def test_mean_weights_are_the_mean_of_all_there_were() -> None:
    module = toy().backbone
    mean, seen = MeanWeights(module, batches=2), [state(module)]
    draw = generator(0, "moves")
    inputs = [torch.randn(4, CHANNELS, 20, generator=draw) for _ in range(3)]
    for x in inputs:
        mean.remember(x)
        module(x)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draw))
        mean.update()
        seen.append(state(module))
    own = state(module)
    mean.show()
    mean.show()
    for place, (name, parameter) in enumerate(module.named_parameters()):
        place = list(module.state_dict()).index(name)
        expected = torch.stack([one[place].double() for one in seen]).mean(0)
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-5, atol=1e-6)
    # Statistics of the mean weights on the last two batches, not of any weights there were.
    convolved = [module[0](x).detach().double() for x in inputs[1:]]
    means = torch.stack([z.mean((0, 2)) for z in convolved]).mean(0)
    variances = torch.stack([z.var((0, 2)) for z in convolved]).mean(0)
    torch.testing.assert_close(module[1].running_mean.double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module[1].running_var.double(), variances, rtol=1e-4, atol=1e-5)
    assert module[1].momentum == 0.1
    mean.hide()
    mean.hide()
    assert same(own, state(module))


def test_mean_weights_leave_frozen_statistics_alone() -> None:
    module = toy().backbone
    module[1].eval()
    before = module[1].running_mean.clone()
    mean = MeanWeights(module)
    mean.remember(noise(4, CHANNELS, 20))
    mean.update()
    mean.show()
    assert torch.equal(module[1].running_mean, before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau": 0.0}, "tau"),
        ({"M": 0}, "M"),
        ({"mask_mode": "some"}, "mask_mode"),
        ({"variant": "published"}, "variant"),
    ],
)
def test_settings_out_of_bounds(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CallbackSettings(**given)


def test_variants_fill_in_what_has_no_argument() -> None:
    released, plus = CallbackSettings(variant="released", beta=0.1), CallbackSettings(variant="paper+")
    assert (released.augmenter.gain, released.augmenter.entropy, released.augmenter.beta) == (
        "sigmoid",
        "hinge",
        0.1,
    )
    assert (released.contrast.local_on, released.contrast.local_batch) == ("anchor", "first")
    assert (plus.contrast.symmetric, plus.contrast.temperature) == (True, 0.2)


def test_models_without_a_backbone_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Linear has no backbone.*FCNPlus.*TSTPlus"):
        Pretext(nn.Linear(2, 2), CHANNELS, CallbackSettings())


# ------------------------------------------------------------------------------------------------------- with tsai

PROGRAM = r'''
import contextlib, io, json, random, sys, warnings
warnings.simplefilter("ignore")
report = {}

import nearfar.timeseries.tsai as ours
report["lazy"] = "tsai" not in sys.modules and "fastai" not in sys.modules
from nearfar.timeseries.tsai import AutoTCL, CallbackSettings
from nearfar.interop.tsai import load

import inspect
from pathlib import Path
import numpy as np
import torch
basics, core = load("tsai.basics"), load("tsai.callback.core")

defaults = {name: p.default for name, p in inspect.signature(AutoTCL.__init__).parameters.items()}
report["defaults"] = all(defaults[name] == value for name, value in CallbackSettings().model_dump().items())

SMALL = {
    "FCNPlus": {"layers": [8, 8, 6]},
    "InceptionTimePlus": {"nf": 4, "depth": 3},
    "TSTPlus": {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16},
}
draws = np.random.Generator(np.random.Philox(0))
X = draws.standard_normal((48, 3, 32)).astype("float32")
y = np.array(["a", "b"])[np.arange(48) % 2]
splits = (list(range(32)), list(range(32, 48)))
unlabelled = basics.get_ts_dls(X, splits=splits, tfms=[None], bs=8)
labelled = basics.get_ts_dls(X, y, splits=splits, tfms=[None, basics.TSClassification()], bs=8)


def seeded(seed=0):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def learner(*cbs, arch="FCNPlus", dls=labelled, seed=0, **more):
    seeded(seed)
    dls.train.rng = random.Random(seed)  # order of the batches
    made = basics.ts_learner(dls, arch, cbs=list(cbs), metrics=[basics.accuracy], **SMALL[arch], **more)
    made.remove_cb(made.progress)
    made.logger = lambda *_: None
    return made


def ours_with(name, **more):
    return AutoTCL(aug_hidden=8, aug_dim=4, target_dir=name, **more)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def quiet(call, *given, **named):
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*given, **named)


class Watch(basics.Callback):
    """Weights after every batch, every step, before and after validation."""

    order = 100

    def before_fit(self):
        self.steps, self.iterates, self.augmenters, self.outside = 0, [state(self.model.backbone)], [], []
        self.batches, self.head_then = [], type(self.model.head).__name__

    def after_step(self):
        self.steps += 1
        self.iterates.append(state(self.model.backbone))

    def after_batch(self):
        if self.training:
            self.augmenters.append(state(self.learn.auto_tcl.augmenter))
            self.batches.append(tuple(self.xb[0].shape))

    def before_validate(self):
        self.before = state(self.model), state(self.learn.auto_tcl.augmenter)

    def after_validate(self):
        self.outside.append(
            same(self.before[0], state(self.model)) and same(self.before[1], state(self.learn.auto_tcl.augmenter))
        )


def moves(states):
    return sum(not same(a, b) for a, b in zip(states, states[1:]))


# Every architecture for two batches an epoch, and what comes back.
report["archs"] = {}
for arch in SMALL:
    dls = basics.get_ts_dls(X, splits=splits, tfms=[None], bs=16)
    learn = learner(ours_with(arch), arch=arch, dls=dls)
    head, loss, metrics, rng = learn.model.head, learn.loss_func, list(learn.metrics), torch.get_rng_state()
    watch = Watch()
    learn.fit(1, cbs=watch)
    file = torch.load(f"{arch}/model.pth", weights_only=True)
    report["archs"][arch] = {
        "values": list(learn.recorder.values[-1]),
        "names": list(learn.recorder.metric_names),
        "back": learn.model.head is head and learn.loss_func is loss and list(learn.metrics) == metrics,
        "head_then": watch.head_then,
        "steps": watch.steps,
        "batches": watch.batches,
        "file": same(file, state(learn.model)),
        "preds": list(learn.get_preds()[0].shape),
        "validation_moves_nothing": watch.outside,
    }
    other = quiet(
        basics.ts_learner, labelled, arch, pretrained=True, weights_path=f"{arch}/model.pth", **SMALL[arch]
    )
    report["archs"][arch]["fine_tuned"] = same(state(other.model.backbone), state(learn.model.backbone))

# The mean, and when the augmenter moves.
watch = Watch()
learn = learner(ours_with("mean", M=3))
learn.fit(2, cbs=watch)
parameters = [name for name, _ in learn.model.backbone.named_parameters()]
mean = {name: torch.stack([one[name].double() for one in watch.iterates]).mean(0) for name in parameters}
final = state(learn.model.backbone)
report["mean"] = {
    "difference": max((mean[name] - final[name].double()).abs().max().item() for name in parameters),
    "from_last": max((watch.iterates[-1][name] - final[name]).abs().max().item() for name in parameters),
    "steps": watch.steps,
    "augmenter_moves": 1 + moves(watch.augmenters),  # the first is before the first look
}
watch = Watch()
learn = learner(ours_with("last", average=False))
learn.fit(1, cbs=watch)
report["last"] = same(state(learn.model.backbone), watch.iterates[-1])

# Accumulated gradients: two batches a step.
watch = Watch()
learn = learner(ours_with("accumulated"), core.GradientAccumulation(n_acc=16))
learn.fit(1, cbs=watch)
final = state(learn.model.backbone)
mean = {name: torch.stack([one[name].double() for one in watch.iterates]).mean(0) for name in parameters}
report["accumulated"] = {
    "steps": watch.steps,
    "augmenter_moves": 1 + moves(watch.augmenters),
    "difference": max((mean[name] - final[name].double()).abs().max().item() for name in parameters),
}


# However a fit ends, the learner is as it was.
class Stop(basics.Callback):
    order = 99

    def __init__(self, error, event):
        self.error, self.event = error, event

    def _maybe(self, event):
        if event == self.event:
            raise self.error

    def before_fit(self): self._maybe("before_fit")
    def after_batch(self): self._maybe("after_batch")
    def after_validate(self): self._maybe("after_validate")


report["ends"] = {}
for name, error in {
    "cancelled": basics.CancelFitException(), "failed": RuntimeError("stop"), "interrupted": KeyboardInterrupt("stop")
}.items():
    for event in ("before_fit", "after_batch", "after_validate"):
        for through_fit in (False, True) if name == "failed" else (False,):
            cb, stop = ours_with("ends"), Stop(error, event)
            learn = learner() if through_fit else learner(cb)
            head, loss, metrics = learn.model.head, learn.loss_func, list(learn.metrics)
            raised = None
            try:
                learn.fit(1, cbs=[cb, stop] if through_fit else [stop])
            except BaseException as caught:
                raised = type(caught).__name__
            back = learn.model.head is head and learn.loss_func is loss and list(learn.metrics) == metrics
            works = list(learn.get_preds()[0].shape) == [16, 2]
            again = learn.fit(1) is None and learn.model.head is head
            report["ends"][f"{name} {event} {through_fit}"] = [raised, back, works, again]
learn = learner(ours_with("ends2"))
head, metrics = learn.model.head, list(learn.metrics)
try:
    learn.fit(1, cbs=core.SaveModelCallback(monitor="accuracy"))  # no such metric in pre-training
except Exception:
    report["refused"] = learn.model.head is head and list(learn.metrics) == metrics

# SaveModelCallback saves instead, and loads at the end.
learn = learner(ours_with("yields"), core.SaveModelCallback(fname="best", monitor="valid_loss"))
head = learn.model.head
quiet(learn.fit, 2)
file = torch.load("models/best.pth", weights_only=True)
report["save_model"] = [not Path("yields").exists(), same(file, state(learn.model)), learn.model.head is head]

# Predictions and validation, with the callback and without.
plain, with_it = learner(), learner(ours_with("preds"))
with_it.model.load_state_dict(plain.model.state_dict())
report["preds"] = [
    torch.equal(plain.get_preds()[0], with_it.get_preds()[0]),
    plain.validate() == with_it.validate(),
    torch.equal(plain.get_preds(with_loss=True)[2], with_it.get_preds(with_loss=True)[2]),
    not Path("preds").exists(),
]
fetch = core.FetchPredsCallback(ds_idx=1) if hasattr(core, "FetchPredsCallback") else basics.FetchPredsCallback()
with_it.fit(1, cbs=fetch)
report["fetched"] = [list(fetch.preds[0].shape), list(with_it.recorder.values[-1])]

# The learning rate finder leaves everything as it was.
learn = learner(ours_with("finder"))
before = state(learn.model)
quiet(learn.lr_find, num_it=6, show_plot=False)
report["finder"] = [same(before, state(learn.model)), not Path("finder").exists()]

# Going on from a file.
learn = learner(ours_with("further", weights_path="mean/model.pth"), seed=5)
learn.fit(0)
file = {n: t for n, t in torch.load("mean/model.pth", weights_only=True).items() if n.startswith("backbone")}
now = {n: t for n, t in state(learn.model).items() if n.startswith("backbone")}
report["further"] = same(file, now)
report["errors"] = {}
for name, (cb, arch, more) in {
    "absent": (ours_with("e", weights_path="nowhere.pth"), "FCNPlus", {}),
    "other": (ours_with("e", weights_path="TSTPlus/model.pth"), "FCNPlus", {}),
}.items():
    try:
        learner(cb, arch=arch).fit(1)
    except Exception as error:
        report["errors"][name] = [type(error).__name__, str(error)]
for arch in ("FCN", "RNN_FCNPlus"):
    try:
        basics.ts_learner(labelled, arch, cbs=[ours_with("e")]).fit(1)
    except Exception as error:
        report["errors"][arch] = [type(error).__name__, str(error)]
try:
    ours_with("e", tau=0)
except Exception as error:
    report["errors"]["tau"] = [type(error).__name__, str(error)]

# Export.
learn = learner(ours_with("exported"))
learn.fit(1)
expected = learn.get_preds(dl=labelled.valid)[0]
learn.export("learner.pkl")
loaded = basics.load_learner("learner.pkl")
report["exported"] = [
    torch.equal(loaded.get_preds(dl=labelled.valid)[0], expected),
    loaded.auto_tcl.learn is loaded and loaded._with_events.__self__ is loaded.auto_tcl,
    type(loaded.auto_tcl).__module__,
]
learn.remove_cb(learn.auto_tcl)
report["removed"] = "_with_events" not in learn.__dict__

# Random numbers: those of the process go on as in a plain fit; those of the callback are its seed's.
states, ends = [], []
for cbs in ([], [ours_with("random")]):
    learn = learner(*cbs)
    seeded(7)
    learn.fit(1)
    states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
report["random"] = states[0] == states[1]
for seed in (0, 0, 1):
    learn = learner(ours_with("seeds", seed=seed))
    learn.fit(1)
    ends.append(state(learn.model))
report["seeds"] = [same(ends[0], ends[1]), same(ends[0], ends[2])]


# Mixed precision (its own needs a GPU), clipping, a schedule, missing values.
class OnCpu(core.MixedPrecision):
    def before_fit(self):
        super().before_fit()
        self.autocast = torch.autocast("cpu", dtype=torch.bfloat16)


class Types(basics.Callback):
    order = 8  # before mixed precision turns predictions back

    def after_pred(self): self.seen = str(self.pred.dtype)


with_gaps = X.copy()
with_gaps[:, 0, 5:9] = np.nan
with_gaps[3, :, 20:] = np.nan
dls = basics.get_ts_dls(with_gaps, splits=splits, tfms=[None], bs=8)
types = Types()
learn = learner(ours_with("mixed"), OnCpu(amp_mode="bf16"), core.GradientClip(0.1), types, dls=dls)
learn.fit_one_cycle(2)
report["mixed"] = {
    "values": list(learn.recorder.values[-1]),
    "finite": all(bool(t.isfinite().all()) for t in state(learn.model).values()),
    "type": types.seen,
    "rates": len(set(learn.recorder.lrs)),
}

# A step that mixed precision skips is none.
class Overflow(basics.Callback):
    order = 10

    def before_step(self): raise basics.CancelStepException()


learn = learner(ours_with("skipped"), Overflow())
before = {name: p.detach().clone() for name, p in learn.model.named_parameters()}
learn.fit(1)
report["skipped"] = all(torch.equal(before[name], p) for name, p in learn.model.named_parameters())

# Nothing to validate on.
dls = basics.get_ts_dls(X, splits=(list(range(48)), []), tfms=[None], bs=8)
learn = learner(ours_with("all"), dls=dls)
learn.fit(1)
report["all"] = [Path("all/model.pth").exists(), list(learn.recorder.values[-1])]

# Frozen layers stay frozen, and stay where they are.
learn = learner(ours_with("frozen"))
first = learn.model.backbone.convblock1
first.requires_grad_(False)
before = [p.clone() for p in first.parameters()]
learn.fit(1)
report["frozen"] = [
    all(torch.equal(a, b) for a, b in zip(before, first.parameters())),
    any(p.requires_grad for p in first.parameters()),
]
print("\n" + json.dumps(report))
'''


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not installed("tsai"):
        pytest.skip(f"needs tsai: {PACKAGES['tsai'].command}")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("tsai"),
        # Steps of milliseconds: threads that wait for each other take longer than the work.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def finite(values: list[float]) -> bool:
    return bool(torch.tensor(values).isfinite().all())


@pytest.mark.interop
def test_tsai_is_imported_when_it_is_needed(report: dict[str, Any]) -> None:
    assert report["lazy"]


@pytest.mark.interop
def test_defaults_of_the_signature_are_those_of_the_settings(report: dict[str, Any]) -> None:
    assert report["defaults"]


@pytest.mark.interop
@pytest.mark.parametrize("arch", ["FCNPlus", "InceptionTimePlus", "TSTPlus"])
def test_two_steps_of_an_architecture(report: dict[str, Any], arch: str) -> None:
    found = report["archs"][arch]
    assert found["names"] == ["epoch", "train_loss", "valid_loss", *TERMS, "time"]
    train, valid, keep, align, uniform, distance = found["values"]
    assert 0 < train < 10
    assert 0 < valid < 10
    assert 0 <= keep <= 1
    assert 0 <= align <= 4
    assert -8 <= uniform <= 0
    assert 0 <= distance <= 10
    assert found["steps"] == 2
    assert found["batches"] == [[32, 3, 32]] * 2, "series and views in one batch"
    assert found["head_then"] == "PassedBy"
    assert found["back"], "head, loss and metrics of the learner"
    assert found["preds"] == [16, 1]
    assert found["validation_moves_nothing"] == [True]


@pytest.mark.interop
@pytest.mark.parametrize("arch", ["FCNPlus", "InceptionTimePlus", "TSTPlus"])
def test_the_file_is_what_is_left_in_the_model_and_starts_another(report: dict[str, Any], arch: str) -> None:
    assert report["archs"][arch]["file"]
    assert report["archs"][arch]["fine_tuned"]


@pytest.mark.interop
def test_the_model_is_left_with_the_mean_of_all_weights(report: dict[str, Any]) -> None:
    assert report["mean"]["steps"] == 8
    assert report["mean"]["difference"] < 1e-6
    assert report["mean"]["from_last"] > 1e-4
    assert report["last"], "average=False leaves the last"


@pytest.mark.interop
def test_the_augmenter_moves_at_every_mth_batch(report: dict[str, Any]) -> None:
    assert report["mean"]["augmenter_moves"] == 3  # batches 0, 3, 6 of 8


@pytest.mark.interop
def test_accumulated_gradients(report: dict[str, Any]) -> None:
    found = report["accumulated"]
    assert (found["steps"], found["augmenter_moves"]) == (2, 4)
    assert found["difference"] < 1e-6, "only steps enter the mean"


@pytest.mark.interop
def test_a_skipped_step_is_no_step(report: dict[str, Any]) -> None:
    assert report["skipped"]


@pytest.mark.interop
def test_the_learner_comes_back_however_a_fit_ends(report: dict[str, Any]) -> None:
    raised = {"cancelled": None, "failed": "RuntimeError", "interrupted": "KeyboardInterrupt"}
    assert len(report["ends"]) == 12
    for case, found in report["ends"].items():
        assert found == [raised[case.split()[0]], True, True, True], case
    assert report["refused"]


@pytest.mark.interop
def test_savemodelcallback_saves_instead(report: dict[str, Any]) -> None:
    assert report["save_model"] == [True, True, True]


@pytest.mark.interop
def test_predictions_and_validation_do_not_notice(report: dict[str, Any]) -> None:
    assert report["preds"] == [True, True, True, True]
    shape, values = report["fetched"]
    assert shape == [16, 6, 32], "within a fit the head is out of the way"
    assert finite(values)


@pytest.mark.interop
def test_the_learning_rate_finder_leaves_no_trace(report: dict[str, Any]) -> None:
    assert report["finder"] == [True, True]


@pytest.mark.interop
def test_going_on_from_a_file(report: dict[str, Any]) -> None:
    assert report["further"]


@pytest.mark.interop
@pytest.mark.parametrize(
    ("name", "kind", "parts"),
    [
        ("absent", "DataError", ("weights_path", "nowhere.pth")),
        ("other", "DataError", ("weights_path", "TSTPlus/model.pth", "backbone.")),
        ("FCN", "ConfigError", ("FCN has no backbone", "FCNPlus", "TSTPlus")),
        ("RNN_FCNPlus", "ConfigError", ("keep the steps", "FCNPlus")),
        ("tau", "ConfigError", ("tau", "got 0")),
    ],
)
def test_errors_name_what_is_wrong(
    report: dict[str, Any], name: str, kind: str, parts: tuple[str, ...]
) -> None:
    found, message = report["errors"][name]
    assert found == kind
    assert all(part in message for part in parts), message


@pytest.mark.interop
def test_export_and_removal(report: dict[str, Any]) -> None:
    assert report["exported"] == [True, True, "nearfar.timeseries.tsai.callback"]
    assert report["removed"]


@pytest.mark.interop
def test_random_numbers_of_the_process_are_left_alone(report: dict[str, Any]) -> None:
    assert report["random"]
    assert report["seeds"] == [True, False]


@pytest.mark.interop
def test_mixed_precision_clipping_schedule_and_missing_values(report: dict[str, Any]) -> None:
    found = report["mixed"]
    assert finite(found["values"])
    assert found["finite"]
    assert found["type"] == "torch.bfloat16"
    assert found["rates"] > 4


@pytest.mark.interop
def test_without_a_validation_set(report: dict[str, Any]) -> None:
    saved, values = report["all"]
    assert saved
    assert finite([values[0]])


@pytest.mark.interop
def test_frozen_layers_stay_frozen(report: dict[str, Any]) -> None:
    assert report["frozen"] == [True, False]
