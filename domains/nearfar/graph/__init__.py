"""Graphs: node embeddings by contrast, with provable bounds of how well every node obeys it (POT)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.graph.budget import AugmentationBudget, budget_sampler
    from nearfar.graph.certificate import Certificate, certify, plot_compactness
    from nearfar.graph.compactness import compactness_bound, contrast_vectors
    from nearfar.graph.contrast.config import GraphContrastConfig
    from nearfar.graph.contrast.method import GraphContrast
    from nearfar.graph.datasets import GraphDataset, load_dataset
    from nearfar.graph.ego.bounds import ego_bounds
    from nearfar.graph.encoder import GCNEncoder
    from nearfar.graph.intervals import IntervalAdjacency, edge_interval
    from nearfar.graph.layers import MessageLayer, describe
    from nearfar.graph.node_compactness import NodeCompactness
    from nearfar.graph.pot.config import POTConfig
    from nearfar.graph.pot.loss import POTLoss
    from nearfar.graph.pot.method import POT
    from nearfar.graph.saved import load_encoder
    from nearfar.graph.task import GraphTask

_HOME = {
    "POT": "pot.method",
    "AugmentationBudget": "budget",
    "Certificate": "certificate",
    "GCNEncoder": "encoder",
    "GraphContrast": "contrast.method",
    "GraphContrastConfig": "contrast.config",
    "GraphDataset": "datasets",
    "GraphTask": "task",
    "IntervalAdjacency": "intervals",
    "MessageLayer": "layers",
    "NodeCompactness": "node_compactness",
    "POTConfig": "pot.config",
    "POTLoss": "pot.loss",
    "budget_sampler": "budget",
    "certify": "certificate",
    "compactness_bound": "compactness",
    "contrast_vectors": "compactness",
    "describe": "layers",
    "edge_interval": "intervals",
    "ego_bounds": "ego.bounds",
    "load_dataset": "datasets",
    "load_encoder": "saved",
    "plot_compactness": "certificate",
}

__all__ = [
    "POT",
    "AugmentationBudget",
    "Certificate",
    "GCNEncoder",
    "GraphContrast",
    "GraphContrastConfig",
    "GraphDataset",
    "GraphTask",
    "IntervalAdjacency",
    "MessageLayer",
    "NodeCompactness",
    "POTConfig",
    "POTLoss",
    "budget_sampler",
    "certify",
    "compactness_bound",
    "contrast_vectors",
    "describe",
    "edge_interval",
    "ego_bounds",
    "load_dataset",
    "load_encoder",
    "plot_compactness",
]

__getattr__ = lazy_names(__name__, _HOME)
