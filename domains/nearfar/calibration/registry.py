"""The calibration methods known by name."""

from __future__ import annotations

from nearfar.registry import MethodEntry, by_name

_TASK = "nearfar.calibration.task:CalibrationTask"
_REQUIRES = ("sklearn",)
_SPACE = "nearfar.calibration.rcal.space"
_PRESETS = "nearfar.calibration.rcal.presets"

METHODS = by_name(
    [
        MethodEntry(
            name="calibration.rcal",
            summary="classifier calibrated by representations without labels",
            source="Zhang et al., ICCV 2023",
            config="nearfar.calibration.rcal.config:RCALConfig",
            method="nearfar.calibration.rcal.method:RCAL",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:SPACE",
            example="nearfar.calibration.example:two_stages",
            published=f"{_PRESETS}:preset",
            offers="nearfar.calibration.rcal.offers:OFFERS",
        ),
        MethodEntry(
            name="calibration.balanced_softmax",
            summary="class sizes in the softmax, and mixup",
            source="Ren et al., NeurIPS 2020",
            config="nearfar.calibration.balanced_softmax.config:BalancedSoftmaxConfig",
            method="nearfar.calibration.balanced_softmax.method:BalancedSoftmax",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:PLAIN",
            example="nearfar.calibration.example:bars",
            published=f"{_PRESETS}:plain",
        ),
        MethodEntry(
            name="calibration.erm",
            summary="cross-entropy on labels as given: the floor",
            source="baseline",
            config="nearfar.calibration.erm.config:ErmConfig",
            method="nearfar.calibration.erm.method:Erm",
            task=_TASK,
            requires=_REQUIRES,
            space=f"{_SPACE}:PLAIN",
            example="nearfar.calibration.example:bars",
            published=f"{_PRESETS}:plain",
        ),
    ]
)
