"""The methods for long tails known by name."""

from __future__ import annotations

from nearfar.registry import MethodEntry, by_name

_TASK = "nearfar.longtail.task:LongTailTask"
_REQUIRES = ("sklearn",)
_SPACE = "nearfar.longtail.sbcl.space"
_PRESETS = "nearfar.longtail.sbcl.presets"

METHODS = by_name(
    [
        MethodEntry(
            name="longtail.sbcl",
            summary="contrast of subclasses of equal size, and of classes",
            source="Hou et al., ICCV 2023",
            config="nearfar.longtail.sbcl.config:SBCLConfig",
            method="nearfar.longtail.sbcl.method:SBCL",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:SPACE",
            example="nearfar.longtail.example:subclasses",
            published=f"{_PRESETS}:preset",
            offers="nearfar.longtail.sbcl.offers:OFFERS",
        ),
        MethodEntry(
            name="longtail.supcon",
            summary="contrast of classes",
            source="Khosla et al., NeurIPS 2020",
            config="nearfar.longtail.supcon.config:SupConConfig",
            method="nearfar.longtail.supcon.method:SupCon",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:CONTRAST",
            example="nearfar.longtail.example:contrast",
            published=f"{_PRESETS}:contrast",
            offers="nearfar.longtail.sbcl.offers:OFFERS",
        ),
        MethodEntry(
            name="longtail.simclr",
            summary="contrast of views, labels for the second stage alone",
            source="Chen et al., ICML 2020",
            config="nearfar.longtail.simclr.config:SimCLRConfig",
            method="nearfar.longtail.simclr.method:SimCLR",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:CONTRAST",
            example="nearfar.longtail.example:contrast",
            published=f"{_PRESETS}:contrast",
            offers="nearfar.longtail.sbcl.offers:OFFERS",
        ),
        MethodEntry(
            name="longtail.balanced_softmax",
            summary="class sizes in the softmax",
            source="Ren et al., NeurIPS 2020",
            config="nearfar.longtail.balanced_softmax.config:BalancedSoftmaxConfig",
            method="nearfar.longtail.balanced_softmax.method:BalancedSoftmax",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:PLAIN",
            example="nearfar.longtail.example:bars",
            published=f"{_PRESETS}:plain",
        ),
        MethodEntry(
            name="longtail.cross_entropy",
            summary="nothing against the long tail: the floor",
            source="baseline",
            config="nearfar.longtail.cross_entropy.config:CrossEntropyConfig",
            method="nearfar.longtail.cross_entropy.method:CrossEntropy",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:PLAIN",
            example="nearfar.longtail.example:bars",
            published=f"{_PRESETS}:plain",
        ),
    ]
)
