"""What a method's author needs to test it."""

from nearfar.testing.toy import ToyConfig, ToyContrast, ToyMethod, ToyRows, ToySource, ToyViews

__all__ = ["ToyConfig", "ToyContrast", "ToyMethod", "ToyRows", "ToySource", "ToyViews"]
