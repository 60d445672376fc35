"""Classes merged into coarse ones of very different size: which methods keep what they were not told of."""

from nearfar.pipelines.hidden_classes.methods import METHODS
from nearfar.pipelines.hidden_classes.sources import SOURCES

__all__ = ["METHODS", "SOURCES"]
