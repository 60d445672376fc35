"""What time series can give to an objective that is chosen by name."""

from __future__ import annotations

from nearfar.selectable import Offers

OFFERS = Offers(
    domain="timeseries",
    gives=frozenset(["more", "side", "surface", "target", "wrong"]),
    lacks={
        "labels": "training sees no labels of series",
        "rows": "crops are drawn anew at every step and have no numbers",
    },
)
