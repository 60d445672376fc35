"""What a method's author needs to test it."""

from nearfar.testing.allocation import LargestTensor
from nearfar.testing.conformance import Subject, check_method, checks_for
from nearfar.testing.draws import draw, two_views
from nearfar.testing.toy import ToyConfig, ToyContrast, ToyMethod, ToyRows, ToySource, ToyViews

__all__ = [
    "LargestTensor",
    "Subject",
    "ToyConfig",
    "ToyContrast",
    "ToyMethod",
    "ToyRows",
    "ToySource",
    "ToyViews",
    "check_method",
    "checks_for",
    "draw",
    "two_views",
]
