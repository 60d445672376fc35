"""What ``nearfar tune recsys.mclrec`` searches: the space of SASRec and the contrast on top."""

from __future__ import annotations

from nearfar.recsys.sasrec.space import SPACE as SASREC
from nearfar.tuning import Choice, Float, SearchSpace

# The paper tries lambda from .005 to .5 on Amazon data; on films the best was lower.
SPACE = SearchSpace(
    {
        **SASREC.ranges,
        "contrast.weight": Float(1e-3, 0.5, log=True),
        "contrast.similarity": Choice("dot", "cosine"),
        "contrast.temperature": Float(0.1, 2.0, log=True),
        "contrast.rows": Choice(32, 64, 128),
    }
)
