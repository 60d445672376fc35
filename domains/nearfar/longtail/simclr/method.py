"""The encoder of SBCL trained by the contrast of views."""

from __future__ import annotations

from nearfar.longtail.sbcl.method import SBCL


class SimCLR(SBCL):
    """Every row its own class (Chen et al., ICML 2020)."""
