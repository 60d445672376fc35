"""Exact nearest rows of a matrix of features, and what is made of them."""

from nearfar.neighbors.exact import nearest
from nearfar.neighbors.local_outlier_factor import local_outlier_factor
from nearfar.neighbors.rows import feature_rows

__all__ = ["feature_rows", "local_outlier_factor", "nearest"]
