"""Features as they are: vectors that somebody's encoder, or none, has made.

Views are those of SCARF (Bahri et al., ICLR 2022, section 3): a share of the entries of a row is replaced by the same
features of other rows. Differs from the paper: both views are changed, each by half the paper's share of 0.6; the
other rows are those of the batch, not of the data set; and a little noise is added, so that no entry is the same twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nearfar.adapters.arrays import as_tensor, check_finite
from nearfar.adapters.convex import convex
from nearfar.adapters.inputs import Inputs
from nearfar.augment.draws import integers, normal, uniform
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import to_device


class FeatureInputs(Inputs):
    """Rows of a matrix of features.

    Args:
        features: Tensor, array or nested list, shape ``(N, D)``, finite; integers become float32, float64 stays.
        corruption: Share of the entries that a view replaces, in [0, 1).
        noise: Standard deviation of the noise in a view, in standard deviations of the feature.

    Attributes:
        features: Shape ``(N, D)``, float32 or float64, on the CPU.

    Raises:
        DataError: If the features are no such matrix.
        ConfigError: If a setting makes no sense.

    Example:
        >>> inputs = FeatureInputs([[1, 2], [3, 4], [5, 6]])
        >>> inputs.rows(torch.tensor([2, 0])).tolist()
        [[5.0, 6.0], [1.0, 2.0]]
    """

    def __init__(self, features: Any, *, corruption: float = 0.3, noise: float = 0.05) -> None:
        x = as_tensor("features", features)
        if x.dim() != 2 or 0 in x.shape:
            raise DataError(
                f"features: shape (N, D) with at least one row and one feature expected, got {tuple(x.shape)}; "
                "reshape it"
            )
        self.features = x if x.dtype == torch.float64 else x.to(torch.float32)
        check_finite("features", self.features, ("row", "column"))
        if not 0 <= corruption < 1:
            raise ConfigError(f"corruption: 0 or more and below 1 expected, got {corruption}")
        if not 0 <= noise < float("inf"):
            raise ConfigError(f"noise: a finite number of at least 0 expected, got {noise}")
        self.corruption, self.noise = corruption, noise
        self._spread = self.features.std(0, unbiased=False)

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, index: Tensor) -> Tensor:
        """Some rows.

        Args:
            index: Numbers of rows, int64, shape ``(B,)``.

        Returns:
            Shape ``(B, D)``.
        """
        return self.features.index_select(0, index)

    def two_views(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two independently corrupted versions.

        Args:
            batch: Shape ``(B, D)``.
            generator: Source of every draw.

        Returns:
            Two tensors of shape ``(B, D)``.
        """
        return self._view(batch, generator), self._view(batch, generator)

    def mix(self, batch: Tensor, order: Tensor, share: Tensor) -> Tensor:
        """The convex combination of every row with its partner.

        Args:
            batch: Shape ``(B, D)``.
            order: Partners, int64, shape ``(B,)``.
            share: Of the row itself, a scalar or shape ``(B,)``.
        """
        return convex(batch, order, share)

    def _view(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        count = len(batch)
        replaced = uniform(batch.shape, batch, generator) < self.corruption
        # 1 to B - 1 rows further on: never the row itself, where there is another one.
        others = torch.full(batch.shape, max(count - 1, 1), device=batch.device)
        further = integers(others, generator) + 1
        donor = (torch.arange(count, device=batch.device)[:, None] + further) % count
        view = torch.where(replaced, batch.gather(0, donor), batch)
        spread: Tensor = to_device(self._spread, batch.device)
        return view + self.noise * spread.to(batch.dtype) * normal(batch.shape, batch, generator)
