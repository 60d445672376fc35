"""MCLRec: SASRec plus contrast between augmented histories (Qin et al., SIGIR 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names
from nearfar.recsys.mclrec.config import ContrastConfig, MCLRecConfig

if TYPE_CHECKING:
    from nearfar.recsys.mclrec.method import MCLRec

__all__ = ["ContrastConfig", "MCLRec", "MCLRecConfig"]

__getattr__ = lazy_names(__name__, {"MCLRec": "method"})
