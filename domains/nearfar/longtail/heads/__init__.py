"""Second stage: classifiers of frozen features whose classes are of very different size.

Only features come in, so an encoder's weights and its running statistics stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.classification.cosine_linear import CosineLinear
    from nearfar.longtail.heads.config import KINDS, HeadConfig, Kind
    from nearfar.longtail.heads.effective_number import effective_number_weights
    from nearfar.longtail.heads.fitting import fit_head
    from nearfar.longtail.heads.knn import NeighborVote
    from nearfar.longtail.heads.ldam_drw import ldam_loss, ldam_margins

_HOME = {
    "KINDS": "nearfar.longtail.heads.config",
    "CosineLinear": "nearfar.classification.cosine_linear",
    "HeadConfig": "nearfar.longtail.heads.config",
    "Kind": "nearfar.longtail.heads.config",
    "NeighborVote": "nearfar.longtail.heads.knn",
    "effective_number_weights": "nearfar.longtail.heads.effective_number",
    "fit_head": "nearfar.longtail.heads.fitting",
    "ldam_loss": "nearfar.longtail.heads.ldam_drw",
    "ldam_margins": "nearfar.longtail.heads.ldam_drw",
}

__all__ = [
    "KINDS",
    "CosineLinear",
    "HeadConfig",
    "Kind",
    "NeighborVote",
    "effective_number_weights",
    "fit_head",
    "ldam_loss",
    "ldam_margins",
]

__getattr__ = lazy_names(__name__, _HOME)
