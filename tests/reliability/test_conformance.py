"""Every registered method keeps every promise; a method that breaks one is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.pipelines.registry import methods
from nearfar.recsys.sasrec.method import SASRec
from nearfar.registry import MethodEntry
from nearfar.testing import Subject, check_method, checks_for
from nearfar.training import StepContext, StepOutput


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_keeps_its_promises(name: str, tmp_path: Path) -> None:
    check_method(methods()[name], tmp_path)


class Waits(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        return StepOutput(output.loss * (1.0 if output.loss.item() > 0 else 2.0), output.terms)


class Forgets(SASRec):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.idle = torch.nn.Parameter(torch.zeros(3))


class Spoils(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        batch.items.zero_()
        return output


class Draws(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        Draws.calls += 1
        return StepOutput(output.loss * (1 + 1e-4 * Draws.calls), output.terms)

    calls = 0


class Climbs(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        return StepOutput(2 * output.loss.detach() - output.loss, output.terms)


class Approximates(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        return StepOutput(output.loss.detach() + 0.5 * (output.loss - output.loss.detach()), output.terms)


class Rounds(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        # As a sum that grows past eight bits does.
        return StepOutput(output.loss * (0.9 if torch.is_autocast_enabled("cpu") else 1.0), output.terms)


class Ignores(SASRec):
    def step(self, batch: Any, ctx: StepContext) -> StepOutput:
        output = super().step(batch, ctx)
        factor = 1 / ctx.chunks
        return StepOutput(output.loss * factor, output.terms, descended=output.descended)


@pytest.mark.parametrize(
    ("method", "promise"),
    [
        (Waits, "no_step_waits_for_the_device"),
        (Forgets, "every_parameter_learns"),
        (Spoils, "the_caller_notices_nothing"),
        (Draws, "equal_seeds_equal_losses"),
        (Climbs, "training_reduces_the_loss"),
        (Approximates, "gradients_are_those_of_the_loss"),
        (Rounds, "half_precision_loses_little"),
        (Ignores, "chunks_change_nothing"),
    ],
)
def test_a_broken_promise_is_found(
    method: type[SASRec], promise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = methods()["recsys.sasrec"]
    load: Callable[[MethodEntry, str], Any] = MethodEntry.load
    monkeypatch.setattr(
        MethodEntry, "load", lambda self, part: method if part == "method" else load(self, part)
    )
    subject = Subject(entry, tuple(entry.load("example")(tmp_path)))
    check = checks_for(subject)[promise]
    with pytest.raises(AssertionError):
        check(subject)


def test_methods_without_training_are_spared_the_steps(tmp_path: Path) -> None:
    entry = methods()["recsys.popularity"]
    subject = Subject(entry, tuple(entry.load("example")(tmp_path)))
    assert "training_reduces_the_loss" not in checks_for(subject)
    assert "state_is_whole" in checks_for(subject)
