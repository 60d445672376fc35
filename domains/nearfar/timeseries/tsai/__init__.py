"""AutoTCL as a callback of tsai: pre-trains the backbone of a learner, beside tsai's own MVP.

Nothing of tsai is imported until :class:`AutoTCL` is asked for, which takes ten seconds::

    from nearfar.timeseries.tsai import AutoTCL  # first: it makes tsai importable without torchvision
    from tsai.basics import get_ts_dls, ts_learner

    unlabelled = get_ts_dls(X, splits=splits, tfms=[None])
    ts_learner(unlabelled, "FCNPlus", cbs=[AutoTCL()]).fit_one_cycle(20)
    learner = ts_learner(labelled, "FCNPlus", pretrained=True, weights_path="./models/AutoTCL/model.pth")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.timeseries.tsai.callback import AutoTCL
    from nearfar.timeseries.tsai.settings import CallbackSettings

__all__ = ["AutoTCL", "CallbackSettings"]
_HOME = {"AutoTCL": "callback", "CallbackSettings": "settings"}

__getattr__ = lazy_names(__name__, _HOME)
