"""Settings of SASRec."""

from __future__ import annotations

from nearfar.recsys.config import SequenceModelConfig


class SASRecConfig(SequenceModelConfig):
    """SASRec (Kang and McAuley, ICDM 2018) trained with full softmax cross-entropy."""
