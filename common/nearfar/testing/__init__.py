"""What a method's author needs to test it."""

from nearfar.testing.conformance import Subject, check_method, checks_for
from nearfar.testing.toy import ToyConfig, ToyContrast, ToyMethod, ToyRows, ToySource, ToyViews

__all__ = [
    "Subject",
    "ToyConfig",
    "ToyContrast",
    "ToyMethod",
    "ToyRows",
    "ToySource",
    "ToyViews",
    "check_method",
    "checks_for",
]
