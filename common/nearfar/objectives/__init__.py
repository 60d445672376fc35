"""Contrastive objectives: one primitive, :func:`contrast`, that every method calls, and named losses on it.

Denominator rules are in :mod:`nearfar.objectives.denominator`.
"""

from nearfar.objectives.barlow_twins import BarlowTwins
from nearfar.objectives.byol import BYOL
from nearfar.objectives.contrast import contrast
from nearfar.objectives.contrast_stats import ContrastStats
from nearfar.objectives.contrast_terms import Term, contrast_terms
from nearfar.objectives.dcl import DCL
from nearfar.objectives.dclw import DCLW
from nearfar.objectives.infonce import InfoNCE
from nearfar.objectives.ntxent import NTXent
from nearfar.objectives.positives import OtherGroups, Pairs, Soft
from nearfar.objectives.queue import KeyQueue
from nearfar.objectives.siglip import SigLIP
from nearfar.objectives.simsiam import SimSiam
from nearfar.objectives.supcon import SupCon
from nearfar.objectives.temperature import LearnableTemperature
from nearfar.objectives.vicreg import VICReg

__all__ = [
    "BYOL",
    "DCL",
    "DCLW",
    "BarlowTwins",
    "ContrastStats",
    "InfoNCE",
    "KeyQueue",
    "LearnableTemperature",
    "NTXent",
    "OtherGroups",
    "Pairs",
    "SigLIP",
    "SimSiam",
    "Soft",
    "SupCon",
    "Term",
    "VICReg",
    "contrast",
    "contrast_terms",
]
