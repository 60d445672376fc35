"""The method: who moves, what stays, what the augmenter finds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from nearfar.config import override_layer, resolve
from nearfar.errors import ConfigError
from nearfar.runtime import Runtime
from nearfar.timeseries import AutoTCL, AutoTCLConfig, ClassificationDataset
from nearfar.timeseries.autotcl.variants import FORECAST, VARIANTS
from nearfar.timeseries.datasets import KNOWN_TABLES
from nearfar.timeseries.sections import Sections
from nearfar.training import StepContext, Trainer, fit

TINY = (
    "data=given",
    "encoder.dim=8",
    "encoder.hidden=8",
    "encoder.depth=2",
    "augmenter.hidden=8",
    "augmenter.dim=4",
    "device=cpu",
)


def settings(*words: str) -> AutoTCLConfig:
    return resolve(AutoTCLConfig, [override_layer([*TINY, *words])])


def given(x: Tensor) -> ClassificationDataset:
    y = torch.zeros(len(x), dtype=torch.int64)
    return ClassificationDataset("given", "memory", x, y, x, y, ("none",))


def noise(count: int = 12, steps: int = 40, channels: int = 2) -> Tensor:
    return torch.randn(count, steps, channels, generator=torch.Generator().manual_seed(0))


def trainer(config: AutoTCLConfig, x: Tensor, cpu: Runtime) -> tuple[Trainer, AutoTCL, Sections]:
    method, source = AutoTCL(config, given(x)), AutoTCL.batches(config, given(x), cpu)
    return Trainer.of(method, source, config, cpu), method, source


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_each_update_moves_one_side(variant: str, cpu: Runtime) -> None:
    config = settings(f"variant={variant}")
    _, method, source = trainer(config, noise(), cpu)
    method.train()
    assert method.augmenter is not None
    batch = source.batch(0)
    for update, moved, held in zip(
        method.updates(0), (method.augmenter, method.encoder), (method.encoder, method.augmenter), strict=True
    ):
        optimizer = method.optimizers(config.optim)[update.optimizer]
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for p in method.parameters():
            p.requires_grad_(id(p) in own)
        before, other = weights(moved), weights(held)
        update.compute(batch, context(cpu)).loss.backward()
        assert all(p.grad is None for p in held.parameters())
        optimizer.step()
        assert any(not torch.equal(a, b) for a, b in zip(before, moved.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(other, held.parameters(), strict=True))
        method.zero_grad(set_to_none=True)


def context(cpu: Runtime, step: int = 0) -> StepContext:
    return StepContext(0, step, cpu)


@pytest.mark.parametrize(("every", "warmup", "steps"), [(4, 0, 10), (1, 3, 7), (3, 4, 12)])
def test_the_augmenter_moves_at_every_mth_step(every: int, warmup: int, steps: int) -> None:
    method = AutoTCL(settings(f"augmenter.every={every}", f"augmenter.warmup={warmup}"), given(noise()))
    moves = [len(method.updates(step)) == 2 for step in range(steps)]
    assert moves == [step >= warmup and step % every == 0 for step in range(steps)]
    if warmup == 0:
        assert sum(moves) == math.ceil(steps / every)


@pytest.mark.parametrize("power", [0, 1, 2.5])
def test_what_is_evaluated_is_the_mean_of_all_weights(power: float, cpu: Runtime) -> None:
    train, method, source = trainer(settings("average=true", f"average_power={power}"), noise(), cpu)
    seen = [weights(method.encoder)]
    for step in range(5):
        train.step(source.batch(step))
        seen.append(weights(method.encoder))
    assert method.averaged is not None
    for place, found in enumerate(method.averaged.module.parameters()):
        # About s to the power, and 1 for all when it is 0.
        share = torch.tensor([math.gamma(s + 1 + power) / math.gamma(s + 1) for s in range(6)]).double()
        expected = torch.einsum(
            "s,s...->...", share / share.sum(), torch.stack([w[place] for w in seen]).double()
        )
        assert torch.allclose(found.double(), expected, atol=1e-6)
    assert method.trained is method.averaged.module
    assert AutoTCL(settings("average=false"), given(noise())).trained is not None


@pytest.mark.parametrize("kind", ["crops", "jitter", "cutout", "random", "none"])
def test_fixed_views_train_without_an_augmenter(kind: str, cpu: Runtime) -> None:
    train, method, source = trainer(settings(f"augmenter.kind={kind}"), noise(), cpu)
    assert method.augmenter is None
    assert list(method.optimizers(method.config.optim)) == ["main"]
    before = weights(method.encoder)
    train.step(source.batch(0))
    assert any(not torch.equal(a, b) for a, b in zip(before, method.encoder.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["learned", "crops", "jitter"])
def test_every_form_trains_on_crops_and_on_whole_series(kind: str, cpu: Runtime) -> None:
    x = noise()
    x[0, 3], x[1, 20:], x[2] = torch.nan, torch.nan, torch.nan
    for form in ("pooled", "hierarchical"):
        for crops in ("true", "false"):
            words = (f"contrast.form={form}", f"augmenter.kind={kind}", f"augmenter.crops={crops}")
            train, method, source = trainer(settings(*words, "batch_size=6"), x, cpu)
            before = weights(method.encoder)
            for step in range(2):
                train.step(source.batch(step))
            assert any(
                not torch.equal(a, b) for a, b in zip(before, method.encoder.parameters(), strict=True)
            )
            assert all(p.isfinite().all() for p in method.parameters())


def test_missing_steps_leave_gradients_finite(cpu: Runtime) -> None:
    x = noise()
    x[0, 3], x[1, 20:], x[2, :5, 0] = torch.nan, torch.nan, torch.nan
    for variant in VARIANTS:
        train, method, source = trainer(settings(f"variant={variant}", "batch_size=12"), x, cpu)
        for step in range(3):
            train.step(source.batch(step))
        assert all(p.isfinite().all() for p in method.parameters())
        method.eval()
        assert method.trained.represent(x).isfinite().all()


def test_the_published_program_draws_from_its_own_seed() -> None:
    made = AutoTCL(settings("variant=released", "seed=42"), given(noise()))
    with torch.random.fork_rng():
        torch.manual_seed(44)
        first = torch.nn.Linear(2, 8)
    assert torch.equal(made.encoder.trunk.state_dict()["inputs.weight"], first.weight)


def test_variants_fill_what_is_not_given() -> None:
    released = AutoTCLConfig(data="x", variant="released", augmenter={"beta": 0.2})
    assert released.augmenter.gate == "released"
    assert released.augmenter.beta == 0.2
    assert released.contrast.hidden_mask == "all_true"
    own = AutoTCLConfig(data="x", variant="paper+", contrast={"temperature": 0.7})
    assert own.contrast.symmetric
    assert own.contrast.temperature == 0.7
    assert AutoTCLConfig(data="x.csv", variant="paper+").encoder.causal
    assert AutoTCLConfig(data="x.csv", variant="paper").encoder.head == "trend"
    assert AutoTCLConfig(data="x.csv", encoder={"head": "none"}).encoder.normalize == "trailing"
    assert set(KNOWN_TABLES) == FORECAST
    for variant in VARIANTS:
        config = AutoTCLConfig(data="x", variant=variant)
        assert AutoTCLConfig.model_validate(copy.deepcopy(config.model_dump())) == config


def test_every_process_needs_a_series(cpu: Runtime) -> None:
    many = Runtime(cpu.device, rank=0, world_size=13)
    with pytest.raises(ConfigError, match="batch_size: 13 series at least expected, one a process, got 8"):
        AutoTCL.batches(settings(), given(noise()), many)


def motifs(count: int = 128, steps: int = 128, size: int = 20) -> tuple[Tensor, Tensor]:
    """Noise with one motif at a place of each series's own; and where it is."""
    rng = torch.Generator().manual_seed(0)
    t = torch.arange(size) / size
    motif = 2.5 * (6 * torch.pi * t).sin() * torch.hann_window(size) + 1.5 * (2 * torch.pi * t).sin()
    start = torch.randint(steps - size, (count,), generator=rng)
    place = start[:, None] + torch.arange(size)
    x = 0.5 * torch.randn(count, steps, generator=rng)
    x.scatter_add_(1, place, motif.expand(count, size))
    inside = torch.zeros(count, steps, dtype=torch.bool).scatter_(1, place, value=True)
    return x[..., None], inside


@pytest.mark.slow
def test_masks_find_what_matters(cpu: Runtime) -> None:
    x, inside = motifs()
    config = settings(
        "variant=paper",
        "encoder.dim=32",
        "encoder.hidden=16",
        "encoder.depth=4",
        "augmenter.hidden=16",
        "augmenter.target_keep=0.3",
        "contrast.temperature=0.2",
        "epochs=80",
    )
    method = AutoTCL(config, given(x))
    fit(method, AutoTCL.batches(config, given(x), cpu), config=config, runtime=cpu, quiet=True)
    assert method.augmenter is not None
    with torch.no_grad():
        pi = method.augmenter(x).pi[..., 0]
    assert float(pi[inside].mean()) >= float(pi[~inside].mean()) + 0.2
