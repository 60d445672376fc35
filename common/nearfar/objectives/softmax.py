"""What the modules that call :func:`contrast` have in common: temperature, backend and process group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from nearfar.checks import check_choice, check_temperature
from nearfar.objectives.contrast import Temperature, contrast
from nearfar.objectives.logsumexp import BACKENDS, Backend
from nearfar.objectives.objective import Objective

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SoftmaxObjective(Objective):
    """An objective with a temperature.

    Args:
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        backend: As of :func:`contrast`.
        group: Process group whose batches are one batch, as of :func:`contrast`.
        **config: The objective's own hyper-parameters.
    """

    def __init__(
        self, temperature: Temperature, backend: Backend, group: ProcessGroup | None, **config: Any
    ) -> None:
        if not isinstance(temperature, nn.Module):
            check_temperature(temperature)
        check_choice("backend", backend, BACKENDS)
        plain = temperature if isinstance(temperature, float | int) else type(temperature).__name__
        super().__init__(temperature=plain, backend=backend, **config)
        self.temperature, self.group = temperature, group

    def _contrast(self, q: Tensor, k: Tensor | None = None, **options: Any) -> Tensor:
        backend = self.config["backend"]
        common = {"temperature": self.temperature, "backend": backend, "group": self.group}
        loss: Tensor = contrast(q, k, **common, **options)
        return loss

    def _current_temperature(self) -> float | Tensor:
        temperature = self.temperature
        current: float | Tensor = temperature() if isinstance(temperature, nn.Module) else temperature
        if isinstance(current, Tensor) and current.numel() != 1:
            raise ValueError(
                f"temperature: one value expected by {type(self).__name__}, got shape {tuple(current.shape)}"
            )
        return current
