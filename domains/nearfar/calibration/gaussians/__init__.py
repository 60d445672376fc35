"""A Gaussian for every class, calibrated by its neighbours, and draws from it without a covariance matrix."""

from nearfar.calibration.gaussians.class_gaussians import ClassGaussians
from nearfar.calibration.gaussians.expected_loss import expected_cross_entropy_bound
from nearfar.calibration.gaussians.outliers import inliers

__all__ = ["ClassGaussians", "expected_cross_entropy_bound", "inliers"]
