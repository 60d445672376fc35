"""Pickle's machine without what calls, imports or changes: readers of foreign pickles start from it.

A reader fills in what it allows: ``find_class``, and some of the instructions that are refused here. The machine is the
one written in Python, since that in C takes memory for whatever place in its memo a file names.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn

# All that makes, calls or changes something. Those of extensions look a class up in a table of the process.
_ACTING = ("REDUCE", "NEWOBJ", "BUILD", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")


class PickleMachine(pickle._Unpickler):
    """It reads numbers, text and containers, and refuses everything else.

    Attributes:
        refusal: What it says then.
    """

    refusal: ClassVar[str] = "it holds more than numbers, text and containers"
    stack: list[Any]
    append: Callable[[Any], None]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """Nothing, but for what a reader allows.

        Raises:
            UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def refuse(self) -> NoReturn:
        """An instruction that is not for this reader.

        Raises:
            UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(self.refusal)

    dispatch |= dict.fromkeys((getattr(pickle, name)[0] for name in _ACTING), refuse)


def instructions(
    performed: dict[str, Callable[..., None]], refused: Iterable[str] = ()
) -> dict[int, Callable[..., None]]:
    """The ``dispatch`` of a reader.

    Args:
        performed: Names of instructions, as :mod:`pickle` has them, and what performs each.
        refused: Names of those that the reader has no need of, besides those of :class:`PickleMachine`.
    """
    own = {getattr(pickle, name)[0]: method for name, method in performed.items()}
    return (
        PickleMachine.dispatch
        | dict.fromkeys((getattr(pickle, name)[0] for name in refused), PickleMachine.refuse)
        | own
    )
