"""MCLRec: SASRec plus contrast between augmented histories (Qin et al., SIGIR 2023)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nearfar.recsys.mclrec.config import ContrastConfig, MCLRecConfig

if TYPE_CHECKING:
    from nearfar.recsys.mclrec.method import MCLRec

__all__ = ["ContrastConfig", "MCLRec", "MCLRecConfig"]


def __getattr__(name: str) -> Any:
    if name == "MCLRec":
        return importlib.import_module(f"{__name__}.method").MCLRec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
