"""Contrastive objectives: one primitive, :func:`contrast`, that every method calls, and named losses on it.

Denominator rules are in :mod:`nearfar.objectives.denominator`.
"""

from nearfar.objectives.adaptive_barlow import AdaptiveBarlow
from nearfar.objectives.adversarial import Adversarial, adversarial_negative, distant_positive
from nearfar.objectives.align_uniform import AlignUniform
from nearfar.objectives.amcl import AMCL
from nearfar.objectives.barlow_twins import BarlowTwins
from nearfar.objectives.beclr import BECLR
from nearfar.objectives.byol import BYOL
from nearfar.objectives.cacr import CACR
from nearfar.objectives.coact import CoACT
from nearfar.objectives.contrast import contrast
from nearfar.objectives.contrast_stats import ContrastStats
from nearfar.objectives.contrast_terms import Term, contrast_terms
from nearfar.objectives.counterfactual import Counterfactual
from nearfar.objectives.crd import CRD
from nearfar.objectives.cwcl import CWCL
from nearfar.objectives.dcl import DCL
from nearfar.objectives.dclw import DCLW
from nearfar.objectives.debcse import DebCSE
from nearfar.objectives.debiased import DebiasedInfoNCE
from nearfar.objectives.distilled import DistilledInfoNCE
from nearfar.objectives.dyce import DyCEMemory
from nearfar.objectives.feature_transfer import FeatureTransfer
from nearfar.objectives.hydra import Hydra
from nearfar.objectives.infonce import InfoNCE
from nearfar.objectives.mean_rank_variance import mean_rank_variance
from nearfar.objectives.mined import MinedInfoNCE, mined_negatives
from nearfar.objectives.moco import MoCo
from nearfar.objectives.model_contrast import ModelContrast, aggregation_weights
from nearfar.objectives.multistage import MultistageInfoNCE
from nearfar.objectives.negclip import NegCLIP
from nearfar.objectives.ntxent import NTXent
from nearfar.objectives.one_to_k import OneToK
from nearfar.objectives.overuse import OveruseInfoNCE, overuse_penalty
from nearfar.objectives.paired_logistic import PairedLogistic
from nearfar.objectives.positives import OtherGroups, Pairs, Soft
from nearfar.objectives.predicted import PredictedBYOL, PredictedSimSiam
from nearfar.objectives.queue import KeyQueue
from nearfar.objectives.relational import Relational
from nearfar.objectives.sepclr import SepCLR
from nearfar.objectives.siglip import SigLIP
from nearfar.objectives.simctg import SimCTG
from nearfar.objectives.simsiam import SimSiam
from nearfar.objectives.supcon import SupCon
from nearfar.objectives.symile import Symile
from nearfar.objectives.temperature import LearnableTemperature
from nearfar.objectives.vicreg import VICReg
from nearfar.objectives.weighted_sum import WeightedSum
from nearfar.objectives.whitened import WhitenedInfoNCE
from nearfar.objectives.whitening import ShuffledGroupWhitening

__all__ = [
    "AMCL",
    "BECLR",
    "BYOL",
    "CACR",
    "CRD",
    "CWCL",
    "DCL",
    "DCLW",
    "AdaptiveBarlow",
    "Adversarial",
    "AlignUniform",
    "BarlowTwins",
    "CoACT",
    "ContrastStats",
    "Counterfactual",
    "DebCSE",
    "DebiasedInfoNCE",
    "DistilledInfoNCE",
    "DyCEMemory",
    "FeatureTransfer",
    "Hydra",
    "InfoNCE",
    "KeyQueue",
    "LearnableTemperature",
    "MinedInfoNCE",
    "MoCo",
    "ModelContrast",
    "MultistageInfoNCE",
    "NTXent",
    "NegCLIP",
    "OneToK",
    "OtherGroups",
    "OveruseInfoNCE",
    "PairedLogistic",
    "Pairs",
    "PredictedBYOL",
    "PredictedSimSiam",
    "Relational",
    "SepCLR",
    "ShuffledGroupWhitening",
    "SigLIP",
    "SimCTG",
    "SimSiam",
    "Soft",
    "SupCon",
    "Symile",
    "Term",
    "VICReg",
    "WeightedSum",
    "WhitenedInfoNCE",
    "adversarial_negative",
    "aggregation_weights",
    "contrast",
    "contrast_terms",
    "distant_positive",
    "mean_rank_variance",
    "mined_negatives",
    "overuse_penalty",
]
