"""Class representations from few examples, corrected: by transport to the queries, by the base classes nearby."""

from nearfar.prototypes.opta import opta
from nearfar.prototypes.teen import teen

__all__ = ["opta", "teen"]
