"""Settings of POT."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nearfar.config import Settings
from nearfar.graph.contrast.config import GraphContrastConfig


class CompactnessConfig(Settings):
    """Which number is called compactness, and for which graphs."""

    mode: Literal["certified", "surrogate", "sampled", "relaxed_at", "ibp"] = Field(
        "certified",
        description="certified: a lower bound over all graphs within the budget; surrogate: the published number, no "
        "bound; sampled: the score of the view, bounds nothing; relaxed_at: its relaxation; ibp: the loosest bound.",
    )
    budget: Literal["expected", "quantile", "all"] = Field(
        "expected", description="Most edges lost at a node: about the mean (published), a quantile, or all."
    )
    delta: float = Field(0.05, gt=0, lt=1, description="quantile: probability of losing more at a node.")
    batch_nodes: int | None = Field(None, ge=1, description="Of the contrasted nodes, how many; null is all.")
    node_list: Literal["exact", "official"] = Field(
        "exact",
        description="Bound a list of nodes as in the whole graph, or with edges that lead out of it cut, as published.",
    )


class POTConfig(GraphContrastConfig):
    """POT (Yu et al., NeurIPS 2023) on a base model."""

    kappa: float = Field(0.4, ge=0, le=1, description="Weight of POT; the base model has the rest.")
    logit_scale: float | Literal["auto"] = Field(
        1.0,
        description="Factor of compactness in the logistic loss; auto divides by its standard deviation.",
    )
    compactness: CompactnessConfig = CompactnessConfig()

    @model_validator(mode="after")
    def _check_scale(self) -> POTConfig:
        if isinstance(self.logit_scale, float) and not self.logit_scale > 0:
            raise ValueError(f"logit_scale: above 0 or auto expected, got {self.logit_scale}")
        if (
            self.compactness.mode == "surrogate"
            and self.sampling == "closure"
            and self.compactness.node_list == "exact"
        ):
            raise ValueError(
                "compactness.mode=surrogate looks at the whole graph: with sampling=closure set "
                "compactness.node_list=official, or take another mode"
            )
        return self
