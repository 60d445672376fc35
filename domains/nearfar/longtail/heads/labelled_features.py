"""Features and labels as every classifier here takes them: checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.labels import class_codes, class_counts
from nearfar.labels.codes import Values
from nearfar.neighbors import feature_rows


@dataclass(frozen=True)
class LabelledFeatures:
    """Frozen features of labelled rows.

    Attributes:
        features: Of every copy of every row, float32 or float64, finite, shape ``(copies, n, m)``.
        codes: Classes, int64 on the CPU, shape ``(n,)``.
        counts: Rows of each class, shape ``(K,)``.
    """

    features: Tensor
    codes: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, features: Tensor | NDArray[Any], labels: Values, num_classes: int) -> LabelledFeatures:
        """Check features and labels.

        Args:
            features: Shape ``(n, m)``; or ``(copies, n, m)``, where a row was changed a little in several ways.
            labels: Class codes, shape ``(n,)``.
            num_classes: K.

        Raises:
            ConfigError: If there is no class.
            DataError: If features are no such array or not finite, labels are no class codes below K, or their number
                differs; or if there is no row.
        """
        if num_classes < 1:
            raise ConfigError(f"num_classes: at least 1 expected, got {num_classes}")
        x = features if isinstance(features, Tensor) else np.asarray(features)
        if x.ndim == 3 and len(x):
            copies = torch.stack([feature_rows(f"features[{c}]", copy) for c, copy in enumerate(x)])
        else:
            copies = feature_rows("features", x)[None]
        codes = class_codes("labels", labels, num_classes)
        if copies.shape[1] != len(codes):
            raise DataError(
                f"labels: one for each of {copies.shape[1]} rows of features expected, got {len(codes)}"
            )
        if not len(codes):
            raise DataError("features: no row to learn from; at least one is needed")
        return cls(copies, codes, class_counts(codes, num_classes))

    @property
    def absent(self) -> Tensor:
        """Classes without a row, bool, on the device of the features, shape ``(K,)``."""
        return torch.from_numpy(self.counts == 0).to(self.features.device)

    def stacked(self) -> tuple[Tensor, NDArray[np.int64]]:
        """All copies below each other, shape ``(copies * n, m)``, and their classes."""
        return self.features.flatten(0, 1), np.tile(self.codes, len(self.features))
