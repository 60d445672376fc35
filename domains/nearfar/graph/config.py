"""Settings shared by the graph methods."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from nearfar.config import RunConfig, SelectionConfig

Probe: TypeAlias = Literal["logistic", "linear", "official-swapped"]


class GraphConfig(RunConfig):
    """Data, split and evaluation of every graph method."""

    data: str = Field(
        "digits", description="cora, citeseer, pubmed, digits, films, or the path of an .npz file."
    )
    normalize: bool = Field(True, description="Features from 0, each node's sum 1 at most.")
    split_seed: int = Field(0, ge=0, description="Of the 10/10/80 split of data without a public one.")
    probe: Probe = Field(
        "logistic",
        description="logistic: L2-normalised, regularisation by validation; linear: 3000 steps of Adam; "
        "official-swapped: the published protocol, measured on validation nodes with the step chosen on test nodes.",
    )
    epochs: int = Field(200, ge=0, description="Passes over the training data.")
    selection: SelectionConfig = SelectionConfig(metric="val/f1_micro", mode="max", every=20)
