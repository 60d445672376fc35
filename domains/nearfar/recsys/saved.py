"""A recommender in a folder: its format."""

from __future__ import annotations

from nearfar.saved import SavedFormat

# Version 1 had text ids only, and no digest of the weights.
RECOMMENDER = SavedFormat("recommender", "recommender.json", version=2, readable=(1, 2), digested_from=2)
