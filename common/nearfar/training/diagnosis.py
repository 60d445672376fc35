"""Where the first non-finite number of a step comes from: the step repeated under observation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.training.method import Method, StepContext


def diagnose(method: Method, batch: Any, ctx: StepContext) -> dict[str, Any]:
    """Compute the updates of a step, change nothing, and say where non-finite numbers appear.

    Args:
        method: With the weights from before the step.
        batch: Of the step, on the device.
        ctx: Of the step.

    Returns:
        ``step``; names of non-finite tensors among ``data`` (with their first row), ``weights`` and ``gradients``;
        ``modules`` whose output was the first of an update to be non-finite; and all ``terms``.
    """
    found: dict[str, Any] = {
        "step": ctx.step,
        "data": [
            {"tensor": name, "first_row": _first_row(value), "count": _count(value)}
            for name, value in tensors(batch, "batch")
            if _count(value)
        ],
        "weights": [name for name, value in method.state_dict().items() if _count(value)],
        "modules": [],
        "gradients": [],
        "terms": {},
    }
    method.train()
    for update in method.updates(ctx.step):
        method.zero_grad(set_to_none=True)
        first: list[str] = []
        with _watched(method, first):
            output = update.compute(batch, ctx)
        terms = {"loss": output.loss, **output.terms}
        found["terms"] |= {
            f"{update.prefix}{name}": str(float(value.detach())) for name, value in terms.items()
        }
        if output.loss.requires_grad and not output.descended:
            output.loss.backward()
        found["modules"] += first
        found["gradients"] += [
            name for name, p in method.named_parameters() if p.grad is not None and _count(p.grad)
        ]
    method.zero_grad(set_to_none=True)
    return found


def explain(report: Mapping[str, Any]) -> str:
    """The first cause in a report, for people; empty when the repetition was finite."""
    if report["data"]:
        first = report["data"][0]
        return f"{first['tensor']} has {first['count']} non-finite values, first in row {first['first_row']}"
    if report["weights"]:
        return f"the weights {', '.join(report['weights'][:3])} were not finite before the step"
    if report["modules"]:
        return f"the first non-finite output is that of {report['modules'][0]}"
    bad = [name for name, value in report["terms"].items() if value in ("nan", "inf", "-inf")]
    if bad:
        return f"all modules gave finite outputs; {', '.join(bad)} did not"
    if report["gradients"]:
        return f"the loss is finite, the gradient of {report['gradients'][0]} is not"
    return ""


class _watched:  # noqa: N801 - reads as a statement
    """Notes the first module whose output is not finite."""

    def __init__(self, method: nn.Module, first: list[str]) -> None:
        self._first = first
        self._handles = [
            module.register_forward_hook(self._hook(name or type(method).__name__))
            for name, module in method.named_modules()
        ]

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - what hooks are given
            if not self._first and any(_count(value) for _, value in tensors(output, name)):
                self._first.append(name)

        return look

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested containers, with the path to it.

    Args:
        value: Tensor, mapping, sequence or dataclass.
        name: Of ``value`` itself.
    """
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}")
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from tensors(part, f"{name}[{index}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from tensors(getattr(value, part.name), f"{name}.{part.name}")


def _count(value: Tensor) -> int:
    return int((~torch.isfinite(value)).sum()) if value.is_floating_point() else 0


def _first_row(value: Tensor) -> int:
    bad = (~torch.isfinite(value)).reshape(len(value) if value.dim() else 1, -1).any(1)
    return int(bad.nonzero()[0])
