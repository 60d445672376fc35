"""The recommenders known by name."""

from __future__ import annotations

from nearfar.registry import MethodEntry, by_name

_TASK = "nearfar.recsys.task:RecsysTask"
_REQUIRES = ("pandas",)

METHODS = by_name(
    [
        MethodEntry(
            name="recsys.mclrec",
            summary="SASRec plus contrast between augmented histories",
            source="Qin et al., SIGIR 2023",
            config="nearfar.recsys.mclrec.config:MCLRecConfig",
            method="nearfar.recsys.mclrec.method:MCLRec",
            task=_TASK,
            requires=_REQUIRES,
            space="nearfar.recsys.mclrec.space:SPACE",
            example="nearfar.recsys.example:ring_contrast",
            offers="nearfar.recsys.mclrec.offers:OFFERS",
        ),
        MethodEntry(
            name="recsys.sasrec",
            summary="SASRec with full softmax, no contrast: the baseline to beat",
            source="Kang and McAuley, ICDM 2018",
            config="nearfar.recsys.sasrec.config:SASRecConfig",
            method="nearfar.recsys.sasrec.method:SASRec",
            task=_TASK,
            requires=_REQUIRES,
            space="nearfar.recsys.sasrec.space:SPACE",
            example="nearfar.recsys.example:ring_sequences",
        ),
        MethodEntry(
            name="recsys.popularity",
            summary="most popular items for everybody: the floor",
            source="baseline",
            config="nearfar.recsys.popularity.config:PopularityConfig",
            method="nearfar.recsys.popularity.method:Popularity",
            task=_TASK,
            requires=_REQUIRES,
            example="nearfar.recsys.example:ring",
        ),
    ]
)
