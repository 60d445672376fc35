"""The encoder of SBCL trained by the contrast of classes."""

from __future__ import annotations

from nearfar.longtail.sbcl.method import SBCL


class SupCon(SBCL):
    """Supervised contrast (Khosla et al., NeurIPS 2020)."""
