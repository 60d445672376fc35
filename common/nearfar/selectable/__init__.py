"""Objectives that a run chooses by name: ``objective=dcl`` in the config of any method that contrasts views.

What each is, what it takes and what its settings are is in :mod:`~nearfar.selectable.registry`; what a domain can give
in :mod:`~nearfar.selectable.offers`. None of that imports torch. :mod:`~nearfar.selectable.objective` builds one.
"""

from nearfar.selectable.choice import read_objective
from nearfar.selectable.offers import Offers
from nearfar.selectable.registry import OBJECTIVES, ObjectiveEntry, known_objectives
from nearfar.selectable.settings import ObjectiveSettings

__all__ = [
    "OBJECTIVES",
    "ObjectiveEntry",
    "ObjectiveSettings",
    "Offers",
    "known_objectives",
    "read_objective",
]
