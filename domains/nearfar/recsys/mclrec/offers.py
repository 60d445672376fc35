"""What histories can give to an objective that is chosen by name."""

from __future__ import annotations

from nearfar.selectable import Offers

OFFERS = Offers(
    domain="recsys",
    gives=frozenset(["labels", "more", "surface", "target", "wrong"]),
    lacks={
        "rows": "histories are drawn at every step from far more than are trained on, so that few ever come again",
        "side": "nothing is known of a history but its items",
    },
)
