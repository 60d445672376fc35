"""Settings of the base models."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from nearfar.config import OptimConfig, Settings
from nearfar.graph.config import GraphConfig
from nearfar.graph.contrast.offers import OFFERS
from nearfar.selectable import ObjectiveSettings, read_objective

Base: TypeAlias = Literal["grace", "gca", "progcl", "costa", "bgrl"]
Centrality: TypeAlias = Literal["uniform", "degree", "pr", "evc"]

# Which edges the published programs drop more often.
_CENTRALITY: dict[Base, Centrality] = {"gca": "degree", "progcl": "evc"}


class AugmentConfig(Settings):
    """How the two views are made."""

    drop_1: float = Field(0.4, ge=0, lt=1, description="Share of edges dropped in the first view.")
    drop_2: float = Field(0.3, ge=0, lt=1, description="Share of edges dropped in the second view.")
    mask_1: float = Field(0.0, ge=0, lt=1, description="Share of features hidden in the first view.")
    mask_2: float = Field(0.0, ge=0, lt=1, description="Share of features hidden in the second view.")
    directed: bool = Field(
        True, description="Drop the two directions of an edge independently, as published; else together."
    )
    centrality: Centrality | None = Field(
        None, description="Keep edges to central nodes more often; null: uniform, gca degree, progcl evc."
    )


class GraphContrastConfig(GraphConfig):
    """Two dropped views of a graph, contrasted node by node."""

    base: Base = Field("grace", description="grace, gca, progcl, costa or bgrl.")
    objective: SerializeAsAny[ObjectiveSettings] | None = Field(
        None,
        description="Loss between the views, by name (nearfar objectives), in place of the base model's own.",
    )
    dim: int = Field(
        128, ge=2, le=8192, description="Width of the embeddings; the hidden layer has twice as much."
    )
    projection: int = Field(128, ge=1, le=8192, description="Width inside the projector or predictor.")
    activation: Literal["relu", "prelu", "leaky_relu", "identity"] = Field(
        "relu", description="After both layers."
    )
    temperature: float = Field(0.9, ge=0.01, le=100, description="Softmax temperature.")
    augment: AugmentConfig = AugmentConfig()
    batch_nodes: int | None = Field(
        None, ge=2, description="Nodes contrasted per step, drawn anew for each; null is all."
    )
    sampling: Literal["full", "closure"] = Field(
        "full",
        description="full: encode the whole graph, one step an epoch; closure: what batch_nodes can see, exactly.",
    )
    mixture_epoch: int = Field(400, ge=1, description="progcl: epoch at which hardness is estimated.")
    momentum: float = Field(0.99, ge=0, lt=1, description="bgrl: of the target encoder.")
    optim: OptimConfig = OptimConfig(lr=5e-4, weight_decay=1e-5)

    _read_objective = field_validator("objective", mode="before")(read_objective(OFFERS))

    @model_validator(mode="after")
    def _check(self) -> GraphContrastConfig:
        if self.objective is not None and self.base not in ("grace", "gca"):
            raise ValueError(
                f"base={self.base} is a loss of its own: with objective={self.objective.name} take base=grace or gca"
            )
        if self.sampling == "closure" and self.batch_nodes is None:
            raise ValueError("sampling=closure needs batch_nodes, the number of nodes encoded per step")
        return self

    @property
    def centrality(self) -> Centrality:
        """Resolved ``augment.centrality``."""
        return self.augment.centrality or _CENTRALITY.get(self.base, "uniform")
