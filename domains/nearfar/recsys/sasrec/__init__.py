"""SASRec with full softmax cross-entropy: the strong plain baseline, and the encoder of MCLRec."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nearfar.recsys.sasrec.config import SASRecConfig

if TYPE_CHECKING:
    from nearfar.recsys.sasrec.encoder import SASRecEncoder
    from nearfar.recsys.sasrec.method import SASRec

__all__ = ["SASRec", "SASRecConfig", "SASRecEncoder"]
_HOME = {"SASRec": "method", "SASRecEncoder": "encoder"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
