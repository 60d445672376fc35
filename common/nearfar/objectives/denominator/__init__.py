"""Which keys stand in the denominator of which rows, answered block by block.

A rule is asked about a block of rows and keys and answers ``True`` (all of them), ``False`` (none: the
block is skipped) or a boolean tensor; an N x M mask never exists unless the user brings one. Rules
combine: ``NotSelf() & NotSame(ids)``.
"""

from nearfar.objectives.denominator.given import Callable, LogWeight, Mask
from nearfar.objectives.denominator.ids import NotSame, OnlySame
from nearfar.objectives.denominator.positions import NotBand, Nothing, NotPositive, NotSelf
from nearfar.objectives.denominator.rule import All, Block, Rule

__all__ = [
    "All",
    "Block",
    "Callable",
    "LogWeight",
    "Mask",
    "NotBand",
    "NotPositive",
    "NotSame",
    "NotSelf",
    "Nothing",
    "OnlySame",
    "Rule",
]
