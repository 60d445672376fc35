"""Which fine classes make a coarse one, and how many rows of each fine class are trained on."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearfar.errors import DataError
from nearfar.labels import class_codes


@dataclass(frozen=True)
class Merging:
    """Coarse classes made of fine ones.

    Attributes:
        groups: Fine classes of every coarse one; each fine class is in one of them.
        sizes: Rows to train on at most, of every fine class.

    Raises:
        DataError: If a fine class is in no group or in two, sizes are not one a fine class, or a coarse class would be
            without rows.

    Example:
        >>> Merging(((0, 1), (2,)), (30, 30, 12)).coarse(np.array([2, 0, 1]))
        array([1, 0, 0])
    """

    groups: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check all of it once."""
        members = sorted(fine for group in self.groups for fine in group)
        if members != list(range(len(self.sizes))) or not members:
            raise DataError(
                f"groups: each of the {len(self.sizes)} fine classes that have a size in one coarse class expected, "
                f"got {self.groups}"
            )
        if min(self.sizes) < 0:
            raise DataError(f"sizes: numbers of rows from 0 expected, got {self.sizes}")
        for name, group in zip(self.names, self.groups, strict=True):
            if not sum(self.sizes[fine] for fine in group):
                raise DataError(
                    f"sizes: a row to train on at least expected in coarse class {name}, made of {group}, got "
                    f"{self.sizes}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the coarse classes: A, B, ..."""
        return tuple(
            string.ascii_uppercase[k] if k < len(string.ascii_uppercase) else f"class {k}"
            for k in range(len(self.groups))
        )

    def coarse(self, fine: NDArray[np.int64]) -> NDArray[np.int64]:
        """Coarse classes of rows.

        Args:
            fine: Class codes, shape ``(n,)``.

        Returns:
            Class codes, int64, shape ``(n,)``.

        Raises:
            DataError: If these are no fine classes of this merging.
        """
        place = np.empty(len(self.sizes), dtype=np.int64)
        for k, group in enumerate(self.groups):
            place[list(group)] = k
        return place[class_codes("fine", fine, len(self.sizes))]

    def described(self, names: Sequence[str]) -> str:
        """What is in which class, for a table.

        Args:
            names: Of the fine classes.

        Example:
            >>> Merging(((0, 1), (2,)), (30, 30, 12)).described(["ant", "bee", "cat"])
            'A: ant (30), bee (30); B: cat (12)'
        """
        return "; ".join(
            f"{name}: {', '.join(f'{names[fine]} ({self.sizes[fine]})' for fine in group)}"
            for name, group in zip(self.names, self.groups, strict=True)
        )
