"""P12: train, save, be killed, lose a file, go on, look: in any order, it ends where an undisturbed run does.

The run lives in a thread that stands still between two steps until it is told what to do. Killed, it is thrown out of
there: nothing is saved, and everything it had in memory is gone.
"""

from __future__ import annotations

import hashlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nearfar.errors import PreemptedError
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyMethod, ToySource, ToyViews
from nearfar.training import CheckpointStore, Method, fit

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

STEPS = 20
CONFIG = ToyConfig.model_validate(
    {
        "epochs": 4,
        "device": "cpu",
        "log_every": 1,
        "checkpoint": {"every_steps": 4, "every_fraction": 1.0},  # nothing by the clock
        "optim": {"lr": 0.01, "schedule": "cosine", "warmup": 0.2, "clip_norm": 1.0},
    }
)
Points = dict[tuple[str, int], float]


class KilledError(BaseException):
    """Thrown into a run; no handler of ordinary errors sees it."""


@dataclass(frozen=True)
class Kind:
    """What is trained: a method with one optimiser, or one with everything a method may carry."""

    make: Callable[[int], Method]
    source: Callable[[], Any]
    look: Callable[[Any], Tensor]


def weight(method: Any) -> Tensor:
    """The head's, which validation is measured by."""
    found: Tensor = method.head.weight
    return found


KINDS = {
    "one optimiser": Kind(
        lambda seed: ToyMethod(seed), lambda: ToySource(CONFIG.seed), lambda m: m(ToySource().x)
    ),
    "two optimisers, momentum encoder, queue": Kind(
        lambda seed: ToyContrast(seed),
        lambda: ToyViews(CONFIG.seed),
        lambda m: m.head(m.encoder(ToyViews().x)),
    ),
}


def digest(content: Any) -> str:
    """Of tensors, numbers and text in any nest of them, to the bit."""
    found = hashlib.blake2b()

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode() + part.contiguous().numpy().tobytes())
        elif isinstance(part, Mapping):
            for key in sorted(part, key=str):
                found.update(repr(key).encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            for one in part:
                add(one)
        else:
            found.update(repr(part).encode())

    add(content)
    return found.hexdigest()


@dataclass
class LiveRun:
    """A run in a thread, which stands still after a step until it is told to go on.

    Attributes:
        kind: What is trained.
        folder: Of its checkpoints.
        points: What it logs goes here.
    """

    kind: Kind
    folder: Path
    points: Points
    orders: queue.Queue[Any] = field(default_factory=queue.Queue)
    still: queue.Queue[Any] = field(default_factory=queue.Queue)
    steps_left: int = 0
    result: Any = None

    def __post_init__(self) -> None:
        """A new process knows nothing: it draws other weights, where there are some to be loaded."""
        self.method = self.kind.make(7 if CheckpointStore(self.folder).steps() else 0)
        self.initial = weight(self.kind.make(0)).detach().clone()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def tell(self, order: Any) -> Any:
        """Give an order, and wait until the run stands still, or for how it ended."""
        self.orders.put(order)
        if not self.thread.is_alive():
            self.thread.start()
        return self.still.get(timeout=60)

    def _run(self) -> None:
        try:
            if not self._stands():
                self.result = fit(
                    self.method,
                    self.kind.source(),
                    config=CONFIG,
                    runtime=Runtime.start("cpu"),
                    store=CheckpointStore(self.folder),
                    resume=True,
                    stop=self._stop,
                    log=self._log,
                    validate=self._validate,
                    quiet=True,
                )
            self.still.put("finished")
        except (PreemptedError, KilledError) as end:
            self.still.put(end)
        except BaseException as error:  # the test has to hear of it
            self.still.put(error)

    def _stands(self, announced: bool = False) -> str | None:
        """Wait for orders until one lets the run go on."""
        while True:
            if announced:
                self.still.put("stands")
            order, announced = self.orders.get(), True
            if isinstance(order, int):
                self.steps_left = order
                return None
            if order == "kill":
                raise KilledError
            if order == "save":
                self.saving = True
                return "a test"
            with torch.no_grad():
                order(self.method.eval())

    saving: bool = False

    def _stop(self) -> str | None:
        if self.saving:
            return "a test"
        self.steps_left -= 1
        return None if self.steps_left > 0 else self._stands(announced=True)

    def _log(self, metrics: Any, step: int) -> None:
        for name, value in metrics.items():
            # A step made again is the same step.
            assert self.points.setdefault((name, step), value) == value, f"{name} of step {step} has changed"

    def _validate(self) -> dict[str, float]:
        return {"val/loss": -float((weight(self.method) - self.initial).norm())}  # the longer, the better


def outcome(run: LiveRun) -> dict[str, str]:
    """Digests of everything that a finished run leaves."""
    last = CheckpointStore(run.folder).load(STEPS)
    return {
        "weights": digest(last.method),
        "optimizers": digest(last.optimizers),
        "best weights": digest(run.method.state_dict()),
        "validations": digest(run.result.history),
        "losses": digest(run.points),
        "ends": repr((run.result.steps, run.result.best_step)),
    }


def harmed(content: bytes, how: str, place: float) -> bytes:
    """A file after an accident."""
    at = int(place * len(content))
    if how == "cut":
        return content[:at]
    if how == "bit" and content:
        return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]
    if how == "zeros":
        return content[:at] + bytes(len(content[at : at + 512])) + content[at + 512 :]
    return b"" if how == "empty" else content + b"rubbish" * 9


class Interruptions(RuleBasedStateMachine):
    """Any sequence of what may happen to a run."""

    kind: Kind
    straight: Mapping[str, str]
    counted: dict[str, int]

    @initialize()
    def begin(self) -> None:
        """Nothing is there."""
        self.folder = Path(tempfile.mkdtemp())
        self.points, self.run = Points(), None
        self.counted["runs"] += 1

    run: LiveRun | None = None

    def alive(self) -> bool:
        """Whether a run stands still, and has not come to its end."""
        return self.run is not None and self.run.result is None

    @rule(steps=st.integers(1, 6))
    def train(self, steps: int) -> None:
        """Go on, from the newest checkpoint where the last run is gone."""
        if self.run is None:
            self.run = LiveRun(self.kind, self.folder, self.points)
        if self.alive():
            self.counted["steps"] += steps
            self.heard(self.run.tell(steps))

    @rule()
    @precondition(lambda self: self.alive())
    def save(self) -> None:
        """Stopped in good order."""
        assert self.run is not None
        end = self.run.tell("save")
        assert end == "finished" or isinstance(end, PreemptedError), end
        self.run = self.run if end == "finished" else None

    @rule()
    @precondition(lambda self: self.alive())
    def kill(self) -> None:
        """Gone without a word."""
        assert self.run is not None
        end = self.run.tell("kill")
        assert isinstance(end, KilledError), end
        self.run = None
        self.counted["kills"] += 1

    @rule(
        how=st.sampled_from(["bit", "cut", "zeros", "empty", "lost", "litter"]),
        place=st.floats(0, 1, exclude_max=True),
    )
    @precondition(lambda self: self.run is None)
    def damage(self, how: str, place: float) -> None:
        """The newest file comes to harm, if there is another one."""
        store = CheckpointStore(self.folder)
        steps = store.steps()
        if how == "litter":
            (self.folder / "step-00000099.ckpt.7.tmp").write_bytes(b"half")
        if len(steps) < 2 or how == "litter":
            return
        newest = store.path(steps[-1])
        if how == "lost":
            newest.unlink()
        else:
            newest.write_bytes(harmed(newest.read_bytes(), how, place))
        self.counted["damages"] += 1

    @rule()
    @precondition(lambda self: self.alive())
    def evaluate(self) -> None:
        """Look at the run: forwards in evaluation mode, and draws of somebody else between its steps."""
        assert self.run is not None

        def look(method: Method) -> None:
            self.kind.look(method)
            torch.randn(5)

        self.heard(self.run.tell(look))

    def heard(self, end: Any) -> None:
        """What the thread has come to."""
        assert end in ("stands", "finished"), repr(end)

    @invariant()
    def a_checkpoint_is_left(self) -> None:
        """Once there was one, the run can go on."""
        store = CheckpointStore(self.folder) if hasattr(self, "folder") else None
        if store is not None and self.points:
            assert store.steps()

    def teardown(self) -> None:
        """Let the run come to its end, and compare all of it."""
        try:
            if hasattr(self, "folder"):
                if self.run is None:
                    self.run = LiveRun(self.kind, self.folder, self.points)
                if self.alive():
                    assert self.run.tell(2 * STEPS) == "finished"
                assert outcome(self.run) == self.straight
        finally:
            if hasattr(self, "folder"):
                shutil.rmtree(self.folder)


@pytest.mark.row("P12")
@pytest.mark.parametrize("name", KINDS)
def test_any_interruptions_end_where_the_straight_run_does(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    straight = LiveRun(KINDS[name], tmp_path / "straight", Points())
    assert straight.tell(2 * STEPS) == "finished"
    counted = dict.fromkeys(("runs", "steps", "kills", "damages"), 0)

    class Machine(Interruptions):
        kind = KINDS[name]

    Machine.straight, Machine.counted = outcome(straight), counted
    run_state_machine_as_test(Machine, settings=settings(stateful_step_count=15))
    assert counted["kills"] > 0
    assert counted["damages"] > 0
    for what, count in counted.items():
        record_property("examples" if what == "runs" else what, count)
