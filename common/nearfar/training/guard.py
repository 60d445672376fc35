"""Losses wait on the device; fetching them every few steps serves the log and the finite check alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nearfar.errors import DivergedError
from nearfar.runtime import Runtime

LogFunction = Callable[[Mapping[str, float], int], None]


def ignore(metrics: Mapping[str, float], step: int) -> None:
    """Log to nowhere."""


class StepBuffer:
    """Terms of the last few steps, kept where they were computed until :meth:`flush`.

    One transfer a flush instead of one a step: on a GPU the host never waits for a single step. Over several
    processes terms are averaged, so all of them flush at the same steps.

    Args:
        log: Receives the terms of a step.
        runtime: The processes.
        every: Steps between those that are logged; all are looked at.
    """

    def __init__(self, log: LogFunction, runtime: Runtime, every: int = 1) -> None:
        self._log, self._runtime, self._every = log, runtime, every
        self._pending: list[tuple[int, str, Tensor]] = []

    def add(self, step: int, terms: Mapping[str, Tensor]) -> None:
        """Remember the scalar ``terms`` of ``step``."""
        self._pending += [(step, name, value.detach()) for name, value in terms.items()]

    def flush(self) -> dict[str, float]:
        """Log everything pending; return the terms of the newest step.

        Raises:
            DivergedError: At the first step with a non-finite term, whose number is its attribute ``step``; finite
                terms before it are logged.
        """
        if not self._pending:
            return {}
        widest = torch.float32 if self._runtime.device.type == "mps" else torch.float64
        pending = torch.stack([value.to(widest) for _, _, value in self._pending])
        values = self._runtime.mean(pending).tolist()
        steps: dict[int, dict[str, float]] = {}
        for (step, name, _), value in zip(self._pending, values, strict=True):
            steps.setdefault(step, {})[name] = value
        self._pending.clear()
        for step, terms in steps.items():
            finite = {name: value for name, value in terms.items() if math.isfinite(value)}
            if step % self._every == 0:
                self._log(finite, step)
            if len(finite) < len(terms):
                bad = ", ".join(f"{name} = {terms[name]}" for name in terms if name not in finite)
                rest = ", ".join(f"{name} = {value:.6g}" for name, value in finite.items()) or "nothing"
                raise DivergedError(
                    f"step {step}: {bad} (still finite: {rest}); "
                    "try a smaller optim.lr, or set optim.clip_norm; no checkpoint of this step was kept",
                    step=step,
                )
        return steps[max(steps)]

    def clear(self) -> None:
        """Forget what is pending."""
        self._pending.clear()
