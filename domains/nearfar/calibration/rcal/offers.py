"""What rows with noisy labels can give to an objective that is chosen by name."""

from __future__ import annotations

from nearfar.classification.offers import row_offers

OFFERS = row_offers("calibration")
