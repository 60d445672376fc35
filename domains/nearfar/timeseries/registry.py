"""The time series methods known by name."""

from __future__ import annotations

from nearfar.registry import MethodEntry, by_name

_TASK = "nearfar.timeseries.task:SeriesTask"
_REQUIRES = ("sklearn",)

METHODS = by_name(
    [
        MethodEntry(
            name="timeseries.autotcl",
            summary="contrast with views that a network learns to make",
            source="Zheng et al., ICLR 2024",
            config="nearfar.timeseries.autotcl.config:AutoTCLConfig",
            method="nearfar.timeseries.autotcl.method:AutoTCL",
            task=_TASK,
            requires=_REQUIRES,
            space="nearfar.timeseries.autotcl.space:SPACE",
            example="nearfar.timeseries.example:bumps",
            published="nearfar.timeseries.autotcl.presets:preset",
            offers="nearfar.timeseries.autotcl.offers:OFFERS",
        ),
        MethodEntry(
            name="timeseries.untrained",
            summary="the same encoder as it is drawn: the floor",
            source="baseline",
            config="nearfar.timeseries.untrained.config:UntrainedConfig",
            method="nearfar.timeseries.untrained.method:Untrained",
            task=_TASK,
            requires=_REQUIRES,
            example="nearfar.timeseries.example:bumps_untrained",
        ),
    ]
)
