"""What rows of any kind, with classes, can give to an objective that is chosen by name."""

from __future__ import annotations

from nearfar.selectable import Offers


def row_offers(domain: str) -> Offers:
    """Of a domain that trains on labelled rows.

    Args:
        domain: Its name.
    """
    return Offers(
        domain=domain,
        gives=frozenset(["labels", "more", "rows", "side", "surface", "target"]),
        lacks={"wrong": "rows of any kind have no order that could be broken"},
    )
