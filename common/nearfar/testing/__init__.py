"""What a method's author needs to test it."""

from nearfar.testing.toy import ToyConfig, ToyMethod, ToySource

__all__ = ["ToyConfig", "ToyMethod", "ToySource"]
