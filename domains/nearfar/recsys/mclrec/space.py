"""What ``nearfar tune recsys.mclrec`` searches: the space of SASRec and the contrastive terms on top."""

from __future__ import annotations

from nearfar.recsys.sasrec.space import SPACE as SASREC
from nearfar.tuning import Choice, Float, SearchSpace

# The paper tries lambda and beta from .005 to .5 on Amazon data; on films the best was lower.
SPACE = SearchSpace(
    {
        **SASREC.ranges,
        "contrast.weight": Float(1e-3, 0.5, log=True),
        "augmenters.weight": Float(1e-3, 0.5, log=True),
        "contrast.rows": Choice(16, 32, 64, 128),
    }
)
