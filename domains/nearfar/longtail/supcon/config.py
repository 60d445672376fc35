"""Settings of supervised contrast."""

from __future__ import annotations

from nearfar.longtail.sbcl.config import SBCLConfig, SubclassConfig


class SupConConfig(SBCLConfig):
    """The warm-up of SBCL, to the end."""

    subclasses: SubclassConfig = SubclassConfig(enabled=False)
