"""What graphs can give to an objective that is chosen by name."""

from __future__ import annotations

from nearfar.selectable import Offers

OFFERS = Offers(
    domain="graph",
    gives=frozenset(["more", "rows", "side", "surface", "target", "wrong"]),
    lacks={"labels": "training sees no labels of nodes"},
)
