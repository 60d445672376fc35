"""The encoder as it is drawn, on the whole graph: what any training has to beat."""

from __future__ import annotations

from nearfar.graph.contrast.method import GraphContrast
from nearfar.training import WithoutTraining


class Untrained(WithoutTraining, GraphContrast):
    """A GCN at its initial weights."""
