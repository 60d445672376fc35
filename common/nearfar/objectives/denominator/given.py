"""Rules the user brings: a mask, a function, weights of pairs."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from nearfar.objectives.denominator.rule import Block, Gather, Rule


@dataclass(frozen=True, eq=False)
class Mask(Rule):
    """Keys marked in a dense mask, for small N.

    Attributes:
        mask: Booleans, shape ``(N, M)``, or ``(..., N, M)`` with the leading dimensions of ``q``.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.mask, Tensor) or self.mask.dtype != torch.bool or self.mask.dim() < 2:
            got = (
                f"{self.mask.dtype} of shape {tuple(self.mask.shape)}"
                if isinstance(self.mask, Tensor)
                else repr(self.mask)
            )
            raise ValueError(f"Mask.mask: boolean tensor (N, M) expected, got {got}")

    def keep(self, block: Block) -> Tensor:
        """Its part of the mask; Args as :meth:`Rule.keep`."""
        mask = self.mask
        if mask.dim() > 2:
            mask = mask.flatten(0, -3)[block.problems or slice(None)]
        if not block.ordered:
            rows, keys = block.row_index.to(mask.device), block.key_index.to(mask.device)
            return mask[..., rows, keys].to(block.device)
        return mask[..., block.rows.start : block.rows.stop, block.keys.start : block.keys.stop].to(
            block.device
        )

    def check(self, lead: torch.Size, num_rows: int, num_keys: int) -> None:
        """Raise ValueError unless the mask has this shape; Args as :meth:`Rule.check`.

        Raises:
            ValueError: If the shape is wrong.
        """
        shapes = dict.fromkeys([(num_rows, num_keys), (*lead, num_rows, num_keys)])
        if tuple(self.mask.shape) not in shapes:
            expected, got = " or ".join(map(str, shapes)), tuple(self.mask.shape)
            raise ValueError(f"denominator: Mask.mask of shape {expected} expected, got {got}")

    def gathered(self, of_rows: Gather, of_keys: Gather) -> Rule:
        """Not possible; Args as :meth:`Rule.gathered`.

        Raises:
            ValueError: Always.
        """
        del of_rows, of_keys
        raise ValueError("denominator: Mask cannot be spread over processes; Callable(rows, keys) can")


@dataclass(frozen=True, eq=False)
class Callable(Rule):
    """Keys a function of the positions says yes to.

    Attributes:
        function: Called with row positions ``(rows, 1)`` and key positions ``(1, keys)``; returns
            booleans ``(rows, keys)``.
        is_symmetric: Promise that (i, j) and (j, i) get the same answer.
    """

    function: abc.Callable[[Tensor, Tensor], Tensor]
    is_symmetric: bool = False

    @property
    def symmetric(self) -> bool:
        """As promised."""
        return self.is_symmetric

    def keep(self, block: Block) -> Tensor:
        """The function's answer; Args as :meth:`Rule.keep`.

        Raises:
            ValueError: If the answer is not boolean or does not have the block's shape.
        """
        answer = self.function(block.row_index, block.key_index)
        if not isinstance(answer, Tensor) or answer.dtype != torch.bool:
            got = answer.dtype if isinstance(answer, Tensor) else repr(answer)
            raise ValueError(f"denominator: torch.bool expected from the function of Callable, got {got}")
        return _of_block(answer, block, "Callable")


@dataclass(frozen=True, eq=False)
class LogWeight(Rule):
    """Every key, its term multiplied by exp(weight): hardness or popularity weights of pairs.

    Attributes:
        function: Called with row positions ``(rows, 1)`` and key positions ``(1, keys)``; returns the
            natural logarithm of the weights, ``(rows, keys)``. They receive no gradient.
        is_symmetric: Promise that (i, j) and (j, i) get the same weight.
    """

    function: abc.Callable[[Tensor, Tensor], Tensor]
    is_symmetric: bool = False

    @property
    def symmetric(self) -> bool:
        """As promised."""
        return self.is_symmetric

    @property
    def weighted(self) -> bool:
        """Always."""
        return True

    def keep(self, block: Block) -> bool:
        """Always ``True``; Args as :meth:`Rule.keep`."""
        del block
        return True

    def log_weight(self, block: Block) -> Tensor:
        """The function's answer, detached; Args as :meth:`Rule.log_weight`.

        Raises:
            ValueError: If the answer is not floating point of the block's shape, or (on the CPU) not finite.
        """
        weight = self.function(block.row_index, block.key_index)
        if not isinstance(weight, Tensor) or not weight.is_floating_point():
            got = weight.dtype if isinstance(weight, Tensor) else repr(weight)
            raise ValueError(
                f"denominator: floating point expected from the function of LogWeight, got {got}"
            )
        if not weight.is_cuda and not weight.isfinite().all():
            raise ValueError(
                "denominator: finite numbers expected from the function of LogWeight; to leave keys out use Callable"
            )
        return _of_block(weight.detach(), block, "LogWeight")


def _of_block(answer: Tensor, block: Block, name: str) -> Tensor:
    expected = (len(block.rows), len(block.keys))
    if answer.shape != expected:
        raise ValueError(
            f"denominator: shape {expected} expected from the function of {name}, got {tuple(answer.shape)}"
        )
    return answer
