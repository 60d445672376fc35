"""SASRec with full softmax cross-entropy: the strong plain baseline, and the encoder of MCLRec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names
from nearfar.recsys.sasrec.config import SASRecConfig

if TYPE_CHECKING:
    from nearfar.recsys.sasrec.encoder import SASRecEncoder
    from nearfar.recsys.sasrec.method import SASRec

__all__ = ["SASRec", "SASRecConfig", "SASRecEncoder"]
_HOME = {"SASRec": "method", "SASRecEncoder": "encoder"}

__getattr__ = lazy_names(__name__, _HOME)
