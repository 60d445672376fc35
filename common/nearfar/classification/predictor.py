"""Classes and probabilities of rows, from whatever gives logits of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Predictor(ABC):
    """What trainers of classifiers answer once they are trained.

    Attributes:
        classes_: Labels in the order of the columns of :meth:`predict_proba`, shape ``(K,)``.
    """

    classes_: NDArray[Any]

    @abstractmethod
    def logits(self, rows: Any) -> Tensor:
        """Logits of rows, shape ``(M, K)``, on the CPU.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.
        """

    def predict_proba(self, rows: Any) -> NDArray[np.float32]:
        """Probability of every class, shape ``(M, K)``.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.
        """
        found: NDArray[np.float32] = torch.softmax(self.logits(rows).float(), 1).numpy()
        return found

    def predict(self, rows: Any) -> NDArray[Any]:
        """Most probable classes, shape ``(M,)``.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.
        """
        found: NDArray[Any] = self.classes_[self.predict_proba(rows).argmax(1)]
        return found
