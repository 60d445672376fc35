"""What every method promises, checked on the small data set it brings itself.

A check is a function of a :class:`Subject`; its docstring is the promise. Methods that are not trained by gradient
skip what is about steps.
"""

from __future__ import annotations

import copy
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nearfar.config import RunConfig, config_hash, override_layer, resolve, yaml12
from nearfar.registry import MethodEntry
from nearfar.runtime import Runtime, to_device
from nearfar.training import BatchSource, Method, StepContext, Task, Trainer, Update, fit
from nearfar.training.diagnosis import tensors

# On a GPU the host would wait for these: they bring a value, or a shape that depends on values, to it.
SYNCHRONISING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")


@dataclass(frozen=True)
class Subject:
    """A method on its example.

    Attributes:
        entry: As registered.
        words: Settings of the example.
    """

    entry: MethodEntry
    words: tuple[str, ...]

    def config(self, *more: str) -> RunConfig:
        """Settings of the example, with some changed."""
        config_class: type[RunConfig] = self.entry.load("config")
        return resolve(config_class, [override_layer([*self.words, "device=cpu", *more])])

    @cached_property
    def task(self) -> Task:
        """The example's data."""
        task: Task = self.entry.load("task")(self.config(), self.entry.load("method"))
        return task

    @cached_property
    def runtime(self) -> Runtime:
        """One process on the CPU."""
        return Runtime.start("cpu")

    def build(self, *more: str) -> tuple[Method, BatchSource, RunConfig]:
        """A fresh method, its batches and settings."""
        config = self.config(*more)
        return self.task.build(config), self.task.batches(config, self.runtime), config

    @property
    def without_dropout(self) -> list[str]:
        """Settings that take the chance out of a step."""
        return [f"{key}=0" for key in self.entry.load("config").model_fields if "dropout" in key]

    @cached_property
    def is_trained(self) -> bool:
        """Whether it makes gradient steps."""
        return bool(self.build()[0].updates(0))

    def losses(self, steps: int, *more: str) -> list[float]:
        """Loss of the first steps."""
        method, source, config = self.build(*more)
        trainer = Trainer.of(method, source, config, self.runtime)
        found: dict[int, float] = {}
        trainer.buffer._log = lambda metrics, step: found.update({step: metrics["train/loss"]})
        for step in range(steps):
            trainer.step(source.batch(step))
        trainer.buffer.flush()
        return [found[step] for step in sorted(found)]

    def context(self, step: int = 0, chunks: int = 1) -> StepContext:
        """Of a step."""
        return StepContext(0, step, self.runtime, chunks)


def settings_survive_yaml_and_json(subject: Subject) -> None:
    """Printed and read back, settings are the same and have the same hash."""
    config = subject.config()
    again = type(config).model_validate_json(config.model_dump_json())
    assert again == config
    assert config_hash(again) == config_hash(config)
    text = "\n".join(f"{key}: {value}" for key, value in _yaml(config).items())
    assert type(config).model_validate(yaml12.loads(text, "here")) == config


def equal_seeds_equal_losses(subject: Subject) -> None:
    """The first ten losses repeat bit by bit under a seed, and differ under another."""
    first, again, other = (subject.losses(10, f"seed={seed}") for seed in (3, 3, 4))
    assert first == again
    assert first != other


def the_caller_notices_nothing(subject: Subject) -> None:
    """Training leaves the batch, and the caller's random numbers, as they were."""
    method, source, config = subject.build("epochs=1")
    batch = source.batch(0)
    before = [value.clone() for _, value in tensors(batch, "batch")]
    method.train()
    for update in method.updates(0):
        update.compute(batch, subject.context())
    assert all(_same(a, b) for a, (_, b) in zip(before, tensors(batch, "batch"), strict=True))
    state = torch.get_rng_state()
    fit(method, source, config=config, runtime=subject.runtime, quiet=True)
    assert torch.equal(torch.get_rng_state(), state)


def a_batch_is_a_function_of_its_step(subject: Subject) -> None:
    """Asked for in any order, from any thread, a step has the same batch."""
    _, source, _ = subject.build()
    steps = list(range(2 * source.steps_per_epoch))[:12]
    expected = [_flat(source.batch(step)) for step in steps]
    _, fresh, _ = subject.build()
    backwards = [_flat(fresh.batch(step)) for step in reversed(steps)][::-1]
    with ThreadPoolExecutor(3) as pool:
        threaded = [_flat(batch) for batch in pool.map(fresh.batch, steps)]
    for found in (backwards, threaded):
        assert all(
            _same(x, y) for a, b in zip(expected, found, strict=True) for x, y in zip(a, b, strict=True)
        )


def state_is_whole(subject: Subject) -> None:
    """Another instance with the state of the first gives the same representations."""
    method, source, config = subject.build()
    if subject.is_trained:
        trainer = Trainer.of(method, source, config, subject.runtime)
        for step in range(3):
            trainer.step(source.batch(step))
    other, _, _ = subject.build("seed=99")
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    rows = np.arange(min(5, subject.task.num_rows))
    assert torch.equal(subject.task.embed(method, rows), subject.task.embed(other, rows))


def representations_do_not_depend_on_company(subject: Subject) -> None:
    """A row is represented the same whatever rows are asked for with it."""
    method, _, _ = subject.build()
    rows = np.arange(min(7, subject.task.num_rows))
    together = subject.task.embed(method, rows)
    alone = torch.cat([subject.task.embed(method, rows[i : i + 1]) for i in range(len(rows))])
    assert (together - alone).abs().max() < 1e-5
    assert torch.isfinite(together).all()


def training_reduces_the_loss(subject: Subject) -> None:
    """The loss is finite from the first step, and smaller at the end of the example."""
    _, source, config = subject.build()
    losses = subject.losses(max(30, config.epochs * source.steps_per_epoch))
    assert np.isfinite(losses).all()
    tenth = max(1, len(losses) // 10)
    assert np.mean(losses[-tenth:]) < np.mean(losses[:tenth])


def no_step_waits_for_the_device(subject: Subject) -> None:
    """Forward and backward bring no value to the host."""
    method, source, _ = subject.build()
    batch = to_device(source.batch(0), subject.runtime.device)
    method.train()
    with _Asynchronous():
        for update in method.updates(0):
            update.compute(batch, subject.context()).loss.backward()


def every_parameter_learns(subject: Subject) -> None:
    """Within an epoch a gradient reaches every trainable parameter."""
    method, source, _ = subject.build()
    method.train()
    reached: set[str] = set()
    for step in range(source.steps_per_epoch):
        for update in method.updates(step):
            method.zero_grad(set_to_none=True)
            update.compute(source.batch(step), subject.context(step)).loss.backward()
            reached |= {
                name for name, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())
            }
    missing = {name for name, p in method.named_parameters() if p.requires_grad} - reached
    assert not missing, f"no gradient for {sorted(missing)}"


def half_precision_loses_little(subject: Subject) -> None:
    """Under autocast to bfloat16 the first loss is that of single precision to three per cent."""
    (exact,), (rough,) = (
        subject.losses(1, f"precision={precision}", *subject.without_dropout)
        for precision in ("float32", "bf16")
    )
    assert abs(rough - exact) <= 0.03 * abs(exact), f"loss {exact} in float32, {rough} in bf16"


def gradients_are_those_of_the_loss(subject: Subject) -> None:
    """In float64, central differences along random directions agree with the gradient.

    Entries without gradient stay where they are: what is held fixed on purpose (the padding of an embedding) has none.
    """
    method, source, _ = subject.build(*subject.without_dropout)
    method = method.double().train()
    batch, rng = source.batch(0), torch.Generator().manual_seed(0)
    for update in method.updates(0):
        method.zero_grad(set_to_none=True)
        update.compute(batch, subject.context()).loss.backward()
        named = method.named_parameters()
        moved = [p for name, p in named if p.grad is not None and name.startswith(update.follows)]
        for _ in range(3):
            ways = [torch.randn(p.shape, generator=rng, dtype=p.dtype) * (p.grad != 0) for p in moved]
            slope = sum(
                float((p.grad * w).sum()) for p, w in zip(moved, ways, strict=True) if p.grad is not None
            )
            # A kink (of a ReLU) between the ends spoils a difference; the smaller step rarely has one between them.
            errors = [
                abs(_difference(subject, update, batch, moved, ways, by) - slope) for by in (1e-6, 1e-7)
            ]
            assert min(errors) < 1e-4 * max(1.0, abs(slope))


def _difference(
    subject: Subject,
    update: Update,
    batch: Any,
    moved: list[torch.nn.Parameter],
    ways: list[Tensor],
    by: float,
) -> float:
    """Slope of the loss along ways, from both sides."""
    ends = []
    for sign in (1, -1):
        with _moved(moved, ways, sign * by), torch.no_grad():
            ends.append(float(update.compute(batch, subject.context()).loss))
    return (ends[0] - ends[1]) / (2 * by)


def chunks_change_nothing(subject: Subject) -> None:
    """Cut into chunks, a step has the same loss and gradients."""
    found = []
    for chunks in (1, 3):
        method, source, _ = subject.build(*subject.without_dropout)
        method = method.double().train()
        output = method.updates(0)[0].compute(source.batch(0), subject.context(chunks=chunks))
        if not output.descended:
            output.loss.backward()
        gradients = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
        found.append((float(output.loss.detach()), gradients))
    (whole, expected), (cut, gradients) = found
    assert abs(whole - cut) < 1e-9 * max(1.0, abs(whole))
    assert expected.keys() == gradients.keys()
    assert all((gradients[name] - expected[name]).abs().max() < 1e-9 for name in expected)


Check = Callable[[Subject], None]
ALWAYS: tuple[Check, ...] = (
    settings_survive_yaml_and_json,
    state_is_whole,
    representations_do_not_depend_on_company,
)
TRAINED: tuple[Check, ...] = (
    equal_seeds_equal_losses,
    the_caller_notices_nothing,
    a_batch_is_a_function_of_its_step,
    training_reduces_the_loss,
    no_step_waits_for_the_device,
    every_parameter_learns,
    half_precision_loses_little,
    gradients_are_those_of_the_loss,
)


def checks_for(subject: Subject) -> Mapping[str, Check]:
    """The checks that concern a method, by name."""
    checks = [*ALWAYS, *(TRAINED if subject.is_trained else ())]
    if subject.is_trained and subject.build()[0].chunkable:
        checks.append(chunks_change_nothing)
    return {check.__name__: check for check in checks}


def check_method(entry: MethodEntry, folder: Path) -> None:
    """Run all checks.

    Args:
        entry: The method, with an ``example``.
        folder: Where the example writes its data.

    Raises:
        AssertionError: Naming the method and the promise that does not hold.
        ConfigError: If the method brings no example.
    """
    subject = Subject(entry, tuple(entry.load("example")(folder)))
    for name, check in checks_for(subject).items():
        try:
            check(subject)
        except AssertionError as error:
            raise AssertionError(f"{entry.name}: {name}: {error}") from error


# Where values are looked at on the CPU.
LOOKING = ("nearfar/objectives/", "nearfar/checks.py")


class _Asynchronous(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU.

    The objectives look at values on the CPU only (finite input, large logits); that they do not on a GPU is for a
    GPU to test.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.name().startswith(SYNCHRONISING):
            files = {frame.filename for frame in traceback.extract_stack()}
            inside = any(place in file.replace("\\", "/") for file in files for place in LOOKING)
            assert inside, f"{func.name()} makes the host wait for the device"
        return func(*args, **(kwargs or {}))


@contextmanager
def _moved(parameters: list[torch.nn.Parameter], ways: list[Tensor], by: float) -> Iterator[None]:
    with torch.no_grad():
        for parameter, way in zip(parameters, ways, strict=True):
            parameter.add_(way, alpha=by)
    yield
    with torch.no_grad():
        for parameter, way in zip(parameters, ways, strict=True):
            parameter.sub_(way, alpha=by)


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit by bit; what is missing in one is missing in the other."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def _flat(batch: Any) -> list[Tensor]:
    return [value for _, value in tensors(batch, "batch")]


def _yaml(config: RunConfig) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in config.model_dump(mode="json").items()}
