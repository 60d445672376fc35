"""Subclasses that are found again and again, as features change."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor

from nearfar.labels import class_codes
from nearfar.labels.codes import Values
from nearfar.longtail.sbcl.config import ClassTemperatureConfig, SubclassConfig
from nearfar.longtail.sbcl.subclasses import Subclasses, find_subclasses


class SubclassAssigner:
    """Subclasses and temperatures for a training loop of yours.

    Args:
        delta: Size of a subclass at least.
        rounding: Of their number.
        temperature: tau_1.
        class_temperature: Formula of tau_2.
        alpha: Of the spread.
        value: tau_2 of ``class_temperature="fixed"``.
        clustering: ``balanced``, or ``plain`` k-means.
        max_iter: Iterations of a clustering at most.
        warm_start: Begin from the centres of the last time, where a class has as many subclasses as then.
        seed: The same seed gives the same subclasses.

    Attributes:
        updates: How often they have been found.

    Example:
        >>> z = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> assigner = SubclassAssigner(delta=10)
        >>> found = assigner.update(z, [0] * 50 + [1] * 10)
        >>> found.sizes.tolist(), bool((found.temperatures > 0.1).all())
        ([10, 10, 10, 10, 10, 10], True)
    """

    def __init__(
        self,
        delta: int = 10,
        rounding: Literal["floor", "ceil"] = "floor",
        *,
        temperature: float = 0.1,
        class_temperature: Literal["paper", "code", "fixed"] = "paper",
        alpha: float = 10.0,
        value: float = 0.2,
        clustering: Literal["balanced", "plain"] = "balanced",
        max_iter: int = 50,
        warm_start: bool = True,
        seed: int = 0,
    ) -> None:
        self.subclasses = SubclassConfig(
            delta=delta, rounding=rounding, clustering=clustering, max_iter=max_iter, warm_start=warm_start
        )
        self.temperatures = ClassTemperatureConfig(kind=class_temperature, alpha=alpha, value=value)
        self.temperature, self.seed, self.updates = temperature, seed, 0
        self._centers: dict[int, Tensor] = {}

    def update(self, z: Tensor, labels: Values, num_classes: int | None = None) -> Subclasses:
        """Find them in the features of now.

        Args:
            z: Features of all rows, in one order, shape ``(n, d)``.
            labels: Class codes, shape ``(n,)``; :func:`nearfar.labels.encode_labels` makes codes of anything else.
            num_classes: K; one more than the largest code by default.

        Raises:
            DataError: If features are not finite, or labels are no class codes, one a row.
        """
        codes = class_codes("labels", labels, num_classes)
        found = find_subclasses(
            z,
            codes,
            int(codes.max(initial=-1)) + 1 if num_classes is None else num_classes,
            subclasses=self.subclasses,
            temperatures=self.temperatures,
            temperature=self.temperature,
            seed=self.seed,
            number=self.updates,
            earlier=self._earlier,
        )
        self._centers = {
            k: found.centers[start : start + count]
            for k, (start, count) in enumerate(zip(found.first.tolist(), found.parts.tolist(), strict=True))
            if count
        }
        self.updates += 1
        return found

    def state_dict(self) -> dict[str, Any]:
        """What the next update depends on: their number and the centres by class."""
        return {"updates": self.updates, "centers": {k: c.clone() for k, c in self._centers.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Go on from what :meth:`state_dict` returned.

        Args:
            state: Of an assigner with the same settings.
        """
        self.updates = int(state["updates"])
        self._centers = {int(k): torch.as_tensor(c) for k, c in state["centers"].items()}
        return self

    def _earlier(self, k: int, count: int) -> Tensor | None:
        known = self._centers.get(k) if self.subclasses.warm_start else None
        return known if known is not None and len(known) == count else None
