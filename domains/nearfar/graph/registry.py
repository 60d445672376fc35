"""The graph methods known by name."""

from __future__ import annotations

from nearfar.registry import MethodEntry, by_name

_TASK = "nearfar.graph.task:GraphTask"
_REQUIRES = ("torch_geometric", "sklearn")

METHODS = by_name(
    [
        MethodEntry(
            name="graph.pot",
            summary="a base model plus a provable bound of every node's contrast",
            source="Yu et al., NeurIPS 2023",
            config="nearfar.graph.pot.config:POTConfig",
            method="nearfar.graph.pot.method:POT",
            task=_TASK,
            requires=_REQUIRES,
            space="nearfar.graph.pot.space:SPACE",
            example="nearfar.graph.example:circles_bounded",
            published="nearfar.graph.pot.published:published",
            offers="nearfar.graph.contrast.offers:OFFERS",
        ),
        MethodEntry(
            name="graph.contrast",
            summary="GRACE, GCA, ProGCL, COSTA or BGRL without POT: the baseline to beat",
            source="Zhu et al., 2020 and others",
            config="nearfar.graph.contrast.config:GraphContrastConfig",
            method="nearfar.graph.contrast.method:GraphContrast",
            task=_TASK,
            requires=_REQUIRES,
            space="nearfar.graph.contrast.space:SPACE",
            example="nearfar.graph.example:circles",
            published="nearfar.graph.contrast.published:published",
            offers="nearfar.graph.contrast.offers:OFFERS",
        ),
        MethodEntry(
            name="graph.untrained",
            summary="the same encoder as it is drawn: the floor",
            source="baseline",
            config="nearfar.graph.untrained.config:UntrainedConfig",
            method="nearfar.graph.untrained.method:Untrained",
            task=_TASK,
            requires=_REQUIRES,
            example="nearfar.graph.example:circles_untrained",
            published="nearfar.graph.untrained.published:published",
        ),
    ]
)
