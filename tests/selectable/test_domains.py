"""Every objective trains in every domain that can have it, and goes on from a checkpoint as if nothing had been."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from nearfar.pipelines.objectives.arenas import ARENAS
from nearfar.pipelines.registry import find
from nearfar.pipelines.settings import resolve_settings
from nearfar.runtime import Runtime
from nearfar.selectable import OBJECTIVES
from nearfar.testing.view_batches import SMALL
from nearfar.training import Trainer

METHODS = tuple(arena.method for arena in ARENAS.values())
PAIRS = [
    (method, name)
    for method in METHODS
    for name, entry in OBJECTIVES.items()
    if find(method).load("offers").refusal(entry.needs) is None
]


def _one_domain_each() -> list[tuple[str, str]]:
    """Every objective once, domains taking turns; `slow` has the others."""
    picked = []
    for place, name in enumerate(OBJECTIVES):
        domains = [method for method, other in PAIRS if other == name]
        picked.append((domains[place % len(domains)], name))
    return picked


FAST = _one_domain_each()
CASES = [
    pytest.param(*pair, id="-".join(pair), marks=() if pair in FAST else pytest.mark.slow) for pair in PAIRS
]


class Run:
    """A method on its example data, and the batches of its first steps."""

    def __init__(self, method: str, objective: str, folder: Path) -> None:
        entry = find(method)
        words = [*entry.load("example")(folder), f"objective={objective}"]
        words += [f"objective.{key}={value}" for key, value in SMALL.get(objective, {}).items()]
        if method == "timeseries.autotcl":
            words.append("augmenter.kind=jitter")  # the learned one needs no test here
        config = resolve_settings(entry, words, environment={})
        self.runtime = Runtime.start("cpu")
        task = entry.load("task")(config, entry.load("method"))
        self.source = task.batches(config, self.runtime)
        self.trainer = Trainer.of(task.build(config), self.source, config, self.runtime)
        self.method: Any = self.trainer.method
        # MCLRec calls its own two losses `objective`.
        self.objective: Any = self.method.chosen if method == "recsys.mclrec" else self.method.objective

    def go(self, first: int, last: int) -> None:
        for step in range(first, last):
            self.trainer.step(self.source.batch(step))

    def state(self) -> bytes:
        kept = io.BytesIO()
        optimizers = {name: one.state_dict() for name, one in self.trainer.optimizers.items()}
        torch.save({"method": self.method.state_dict(), "optimizers": optimizers}, kept)
        return kept.getvalue()

    def load(self, state: bytes) -> None:
        content = torch.load(io.BytesIO(state), weights_only=True)
        self.method.load_state_dict(content["method"])
        for name, one in self.trainer.optimizers.items():
            one.load_state_dict(content["optimizers"][name])


@pytest.mark.parametrize(("method", "objective"), CASES)
def test_it_trains_and_goes_on(method: str, objective: str, tmp_path: Path) -> None:
    run = Run(method, objective, tmp_path)
    before = {name: p.detach().clone() for name, p in run.method.encoder.named_parameters()}
    own = {name: p.detach().clone() for name, p in run.objective.loss.named_parameters()}
    run.go(0, 3)
    state = run.state()
    run.go(3, 6)
    losses = run.trainer.buffer.flush()
    assert all(torch.tensor(value).isfinite() for value in losses.values())
    moved = [name for name, p in run.method.encoder.named_parameters() if not torch.equal(p, before[name])]
    assert moved
    still = [name for name, p in run.objective.loss.named_parameters() if torch.equal(p, own[name])]
    assert not still, f"parameters of {objective} that learn nothing: {still}"

    again = Run(method, objective, tmp_path)
    again.load(state)
    again.trainer.done.step = 3
    again.go(3, 6)
    for (name, here), there in zip(
        run.method.state_dict().items(), again.method.state_dict().values(), strict=True
    ):
        assert torch.equal(here, there), name
